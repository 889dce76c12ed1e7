-- The events of audit journals, for storage/auditstore: rows can be added, and nothing else.

-- +goose Up
CREATE TABLE IF NOT EXISTS "audit_events" ("writer" varchar(64) COLLATE "C" NOT NULL,"seq" bigint NOT NULL,"leaf" bytea NOT NULL,"recorded_at" bigint NOT NULL,"type" varchar(64) NOT NULL,"outcome" varchar(16) NOT NULL,"reason" varchar(64) NOT NULL,"purpose" varchar(16) NOT NULL,"tenant" varchar(64) COLLATE "C" NOT NULL,"actor" varchar(64) COLLATE "C" NOT NULL,"line" bytea NOT NULL,PRIMARY KEY ("writer","seq"));
CREATE INDEX IF NOT EXISTS "audit_events_time" ON "audit_events" ("tenant","recorded_at");
CREATE INDEX IF NOT EXISTS "audit_events_actor" ON "audit_events" ("tenant","actor","recorded_at");
CREATE TABLE IF NOT EXISTS "audit_event_patients" ("patient" varchar(64) COLLATE "C" NOT NULL,"writer" varchar(64) COLLATE "C" NOT NULL,"seq" bigint NOT NULL,PRIMARY KEY ("patient","writer","seq"));
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION "audit_events_insert_only"() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'part164: % takes new rows only', TG_TABLE_NAME; END $$;
-- +goose StatementEnd
CREATE OR REPLACE TRIGGER "audit_events_change" BEFORE UPDATE OR DELETE ON "audit_events" FOR EACH ROW EXECUTE FUNCTION "audit_events_insert_only"();
CREATE OR REPLACE TRIGGER "audit_events_truncate" BEFORE TRUNCATE ON "audit_events" FOR EACH STATEMENT EXECUTE FUNCTION "audit_events_insert_only"();
CREATE OR REPLACE TRIGGER "audit_event_patients_change" BEFORE UPDATE OR DELETE ON "audit_event_patients" FOR EACH ROW EXECUTE FUNCTION "audit_events_insert_only"();
CREATE OR REPLACE TRIGGER "audit_event_patients_truncate" BEFORE TRUNCATE ON "audit_event_patients" FOR EACH STATEMENT EXECUTE FUNCTION "audit_events_insert_only"();
-- session_replication_role does not switch them off.
ALTER TABLE "audit_events" ENABLE ALWAYS TRIGGER "audit_events_change";
ALTER TABLE "audit_events" ENABLE ALWAYS TRIGGER "audit_events_truncate";
ALTER TABLE "audit_event_patients" ENABLE ALWAYS TRIGGER "audit_event_patients_change";
ALTER TABLE "audit_event_patients" ENABLE ALWAYS TRIGGER "audit_event_patients_truncate";

-- +goose Down
-- Nothing: the events are kept for as long as your retention asks.
