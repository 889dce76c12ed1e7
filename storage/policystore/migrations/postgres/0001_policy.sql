-- The access policy, for storage/policystore.

-- +goose Up
CREATE TABLE IF NOT EXISTS "policy_rules" ("role" varchar(64) COLLATE "C" NOT NULL,"tenant" varchar(64) COLLATE "C" NOT NULL,"resource" varchar(255) COLLATE "C" NOT NULL,"action" varchar(255) COLLATE "C" NOT NULL,"purpose" varchar(64) COLLATE "C" NOT NULL,"effect" varchar(8) COLLATE "C" NOT NULL CHECK ("effect" IN ('allow','deny')),"revision" bigint NOT NULL,PRIMARY KEY ("role","tenant","resource","action","purpose","effect"));
CREATE TABLE IF NOT EXISTS "policy_links" ("kind" varchar(8) COLLATE "C" NOT NULL CHECK ("kind" IN ('role','user')),"tenant" varchar(64) COLLATE "C" NOT NULL,"member" varchar(64) COLLATE "C" NOT NULL,"role" varchar(64) COLLATE "C" NOT NULL,"revision" bigint NOT NULL,PRIMARY KEY ("kind","tenant","member","role"));
CREATE TABLE IF NOT EXISTS "policy_revision" ("id" smallint NOT NULL CHECK ("id" = 1),"revision" bigint NOT NULL,"head" bytea,"state" bytea,"mac" bytea,"changed_at" bigint NOT NULL,PRIMARY KEY ("id"));
INSERT INTO "policy_revision" ("id","revision","changed_at") VALUES (1,0,0) ON CONFLICT DO NOTHING;
CREATE TABLE IF NOT EXISTS "policy_changes" ("id" varchar(36) COLLATE "C" NOT NULL,"status" varchar(16) COLLATE "C" NOT NULL CHECK ("status" IN ('proposed','applied','rejected')),"revision" bigint,"tenant" varchar(64) COLLATE "C" NOT NULL,"author" varchar(64) COLLATE "C" NOT NULL,"author_kind" varchar(16) COLLATE "C" NOT NULL,"on_behalf" varchar(64) COLLATE "C" NOT NULL,"reason" varchar(64) COLLATE "C" NOT NULL,"reference" varchar(64) COLLATE "C" NOT NULL,"terminated" varchar(64) COLLATE "C" NOT NULL,"terminated_tenant" varchar(64) COLLATE "C" NOT NULL,"proposed_at" bigint NOT NULL,"approver" varchar(64) COLLATE "C" NOT NULL,"approver_tenant" varchar(64) COLLATE "C" NOT NULL,"decided_at" bigint NOT NULL,"edits" bigint NOT NULL,"previous" bytea,"digest" bytea,"mac" bytea NOT NULL,PRIMARY KEY ("id"));
CREATE UNIQUE INDEX IF NOT EXISTS "policy_changes_revision" ON "policy_changes" ("revision");
CREATE INDEX IF NOT EXISTS "policy_changes_status" ON "policy_changes" ("status","proposed_at");
CREATE TABLE IF NOT EXISTS "policy_edits" ("change_id" varchar(36) COLLATE "C" NOT NULL,"seq" bigint NOT NULL,"op" varchar(8) COLLATE "C" NOT NULL CHECK ("op" IN ('add','remove')),"kind" varchar(8) COLLATE "C" NOT NULL CHECK ("kind" IN ('role','rule','user')),"tenant" varchar(64) COLLATE "C" NOT NULL,"member" varchar(64) COLLATE "C" NOT NULL,"role" varchar(64) COLLATE "C" NOT NULL,"resource" varchar(255) COLLATE "C" NOT NULL,"action" varchar(255) COLLATE "C" NOT NULL,"purpose" varchar(64) COLLATE "C" NOT NULL,"effect" varchar(8) COLLATE "C" NOT NULL,PRIMARY KEY ("change_id","seq"));

-- +goose Down
-- Nothing: who changed the policy is kept for as long as your retention asks.
