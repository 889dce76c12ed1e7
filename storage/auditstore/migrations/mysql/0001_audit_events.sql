-- The events of audit journals, for storage/auditstore: rows can be added, and nothing else.
-- TRUNCATE fires no trigger here: give the app's user no right to DROP (auditstore.Grants).

-- +goose Up
CREATE TABLE IF NOT EXISTS `audit_events` (`writer` varbinary(64) NOT NULL,`seq` bigint NOT NULL,`leaf` varbinary(32) NOT NULL,`recorded_at` bigint NOT NULL,`type` varchar(64) NOT NULL,`outcome` varchar(16) NOT NULL,`reason` varchar(64) NOT NULL,`purpose` varchar(16) NOT NULL,`tenant` varbinary(64) NOT NULL,`actor` varbinary(64) NOT NULL,`line` mediumblob NOT NULL,PRIMARY KEY (`writer`,`seq`),INDEX `audit_events_time` (`tenant`,`recorded_at`),INDEX `audit_events_actor` (`tenant`,`actor`,`recorded_at`));
CREATE TABLE IF NOT EXISTS `audit_event_patients` (`patient` varbinary(64) NOT NULL,`writer` varbinary(64) NOT NULL,`seq` bigint NOT NULL,PRIMARY KEY (`patient`,`writer`,`seq`));
CREATE TRIGGER IF NOT EXISTS `audit_events_update` BEFORE UPDATE ON `audit_events` FOR EACH ROW SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'part164: audit_events takes new rows only';
CREATE TRIGGER IF NOT EXISTS `audit_events_delete` BEFORE DELETE ON `audit_events` FOR EACH ROW SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'part164: audit_events takes new rows only';
CREATE TRIGGER IF NOT EXISTS `audit_event_patients_update` BEFORE UPDATE ON `audit_event_patients` FOR EACH ROW SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'part164: audit_event_patients takes new rows only';
CREATE TRIGGER IF NOT EXISTS `audit_event_patients_delete` BEFORE DELETE ON `audit_event_patients` FOR EACH ROW SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'part164: audit_event_patients takes new rows only';

-- +goose Down
-- Nothing: the events are kept for as long as your retention asks.
