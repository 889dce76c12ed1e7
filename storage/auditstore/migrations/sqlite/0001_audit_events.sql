-- The events of audit journals, for storage/auditstore: rows can be added, and nothing else.

-- +goose Up
CREATE TABLE IF NOT EXISTS `audit_events` (`writer` text NOT NULL,`seq` integer NOT NULL,`leaf` blob NOT NULL,`recorded_at` integer NOT NULL,`type` text NOT NULL,`outcome` text NOT NULL,`reason` text NOT NULL,`purpose` text NOT NULL,`tenant` text NOT NULL,`actor` text NOT NULL,`line` blob NOT NULL,PRIMARY KEY (`writer`,`seq`));
CREATE INDEX IF NOT EXISTS `audit_events_time` ON `audit_events`(`tenant`,`recorded_at`);
CREATE INDEX IF NOT EXISTS `audit_events_actor` ON `audit_events`(`tenant`,`actor`,`recorded_at`);
CREATE TABLE IF NOT EXISTS `audit_event_patients` (`patient` text NOT NULL,`writer` text NOT NULL,`seq` integer NOT NULL,PRIMARY KEY (`patient`,`writer`,`seq`));
-- +goose StatementBegin
CREATE TRIGGER IF NOT EXISTS `audit_events_update` BEFORE UPDATE ON `audit_events` BEGIN SELECT RAISE(ABORT, 'part164: audit_events takes new rows only'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER IF NOT EXISTS `audit_events_delete` BEFORE DELETE ON `audit_events` BEGIN SELECT RAISE(ABORT, 'part164: audit_events takes new rows only'); END;
-- +goose StatementEnd
-- REPLACE removes a row without the trigger of DELETE.
-- +goose StatementBegin
CREATE TRIGGER IF NOT EXISTS `audit_events_replace` BEFORE INSERT ON `audit_events` WHEN EXISTS (SELECT 1 FROM `audit_events` WHERE `writer` = NEW.`writer` AND `seq` = NEW.`seq`) BEGIN SELECT RAISE(ABORT, 'part164: audit_events takes new rows only'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER IF NOT EXISTS `audit_event_patients_update` BEFORE UPDATE ON `audit_event_patients` BEGIN SELECT RAISE(ABORT, 'part164: audit_event_patients takes new rows only'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER IF NOT EXISTS `audit_event_patients_delete` BEFORE DELETE ON `audit_event_patients` BEGIN SELECT RAISE(ABORT, 'part164: audit_event_patients takes new rows only'); END;
-- +goose StatementEnd

-- +goose Down
-- Nothing: the events are kept for as long as your retention asks.
