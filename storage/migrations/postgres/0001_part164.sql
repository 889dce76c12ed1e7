-- The tables of part164 itself.

-- +goose Up
CREATE TABLE "phi_meta" ("id" bigint,"database_id" varchar(36) NOT NULL,"generation" bigint NOT NULL,"tombstones" bigint NOT NULL DEFAULT 0,"absent" bigint NOT NULL DEFAULT 0,"mac" bytea,PRIMARY KEY ("id"));
CREATE TABLE "phi_tenant_keys" ("tenant_id" varchar(64),"purpose" varchar(16),"wrapped" bytea NOT NULL,"created_at" timestamptz,PRIMARY KEY ("tenant_id","purpose"));
CREATE TABLE "phi_subject_keys" ("tenant_id" varchar(64),"subject_id" varchar(64),"version" bigint,"wrapped" bytea,"shredded" boolean NOT NULL,"closed" boolean NOT NULL DEFAULT false,"created_at" timestamptz,PRIMARY KEY ("tenant_id","subject_id","version"));
CREATE TABLE "phi_outbox" ("attempt" varchar(64),"writer" varchar(64) NOT NULL,"digest" bytea NOT NULL,"mac" bytea NOT NULL,PRIMARY KEY ("attempt"));
CREATE INDEX IF NOT EXISTS "idx_phi_outbox_writer" ON "phi_outbox" ("writer");
CREATE TABLE "phi_index" ("tenant_id" varchar(64),"field" varchar(60),"token" bytea,"record_id" varchar(36),"subject_id" varchar(36) NOT NULL,"key_version" bigint NOT NULL,"unique_token" bytea,PRIMARY KEY ("tenant_id","field","token","record_id"));
CREATE INDEX IF NOT EXISTS "phi_index_record" ON "phi_index" ("tenant_id","record_id");
CREATE UNIQUE INDEX IF NOT EXISTS "phi_index_unique" ON "phi_index" ("tenant_id","field","unique_token");
CREATE TABLE "phi_tables" ("name" varchar(64),PRIMARY KEY ("name"));
CREATE TABLE "phi_jobs" ("id" varchar(64),"tenant_id" varchar(64) NOT NULL,"kind" varchar(32) NOT NULL,"name" varchar(64) NOT NULL,"state" varchar(16) NOT NULL,"holder" varchar(36) NOT NULL,"beat" bigint NOT NULL,"step" bigint NOT NULL,"at_table" varchar(64) NOT NULL,"after_id" varchar(64) NOT NULL,"total" bigint NOT NULL,"rows" bigint NOT NULL,"changed" bigint NOT NULL,"skipped" bigint NOT NULL,"created_at" timestamptz,"updated_at" timestamptz,PRIMARY KEY ("id"));
CREATE TABLE "phi_merges" ("tenant_id" varchar(64),"from_id" varchar(36),"entity" varchar(64),"record_id" varchar(36),"into_id" varchar(36) NOT NULL,"mac" bytea,"created_at" timestamptz,PRIMARY KEY ("tenant_id","from_id","entity","record_id"));
CREATE INDEX IF NOT EXISTS "idx_phi_merges_into_id" ON "phi_merges" ("into_id");
CREATE TABLE "phi_files" ("id" varchar(36),"tenant_id" varchar(64) NOT NULL,"version" bigint NOT NULL,"created_at" timestamptz,"updated_at" timestamptz,"subject_id" varchar(36) NOT NULL,"class" varchar(20) NOT NULL,"size" bigint NOT NULL,"content" bytea,PRIMARY KEY ("id"));
CREATE INDEX IF NOT EXISTS "idx_phi_files_subject_id" ON "phi_files" ("subject_id");
CREATE INDEX IF NOT EXISTS "idx_phi_files_tenant_id" ON "phi_files" ("tenant_id");
ALTER TABLE "phi_files" ADD CONSTRAINT "phi_cell_phi_files_content" CHECK ("content" IS NULL OR octet_length("content") >= 34 AND substring("content" from 1 for 2) = '\xf901'::bytea) NOT VALID;
ALTER TABLE "phi_files" VALIDATE CONSTRAINT "phi_cell_phi_files_content";

-- +goose Down
-- Nothing: what is dropped here cannot be opened or made again.
