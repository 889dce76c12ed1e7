-- The tables of part164 itself.

-- +goose Up
CREATE TABLE `phi_meta` (`id` bigint,`database_id` varchar(36) NOT NULL,`generation` bigint unsigned NOT NULL,`tombstones` bigint unsigned NOT NULL DEFAULT 0,`absent` bigint unsigned NOT NULL DEFAULT 0,`mac` longblob,PRIMARY KEY (`id`));
CREATE TABLE `phi_tenant_keys` (`tenant_id` varchar(64),`purpose` varchar(16),`wrapped` longblob NOT NULL,`created_at` datetime(3) NULL,PRIMARY KEY (`tenant_id`,`purpose`));
CREATE TABLE `phi_subject_keys` (`tenant_id` varchar(64),`subject_id` varchar(64),`version` int unsigned,`wrapped` longblob,`shredded` boolean NOT NULL,`closed` boolean NOT NULL DEFAULT false,`created_at` datetime(3) NULL,PRIMARY KEY (`tenant_id`,`subject_id`,`version`));
CREATE TABLE `phi_outbox` (`attempt` varchar(64),`writer` varchar(64) NOT NULL,`digest` longblob NOT NULL,`mac` longblob NOT NULL,PRIMARY KEY (`attempt`),INDEX `idx_phi_outbox_writer` (`writer`));
CREATE TABLE `phi_index` (`tenant_id` varchar(64),`field` varchar(60),`token` varbinary(32),`record_id` varchar(36),`subject_id` varchar(36) NOT NULL,`key_version` int unsigned NOT NULL,`unique_token` varbinary(32),PRIMARY KEY (`tenant_id`,`field`,`token`,`record_id`),UNIQUE INDEX `phi_index_unique` (`tenant_id`,`field`,`unique_token`),INDEX `phi_index_record` (`tenant_id`,`record_id`));
CREATE TABLE `phi_tables` (`name` varchar(64),PRIMARY KEY (`name`));
CREATE TABLE `phi_jobs` (`id` varchar(64),`tenant_id` varchar(64) NOT NULL,`kind` varchar(32) NOT NULL,`name` varchar(64) NOT NULL,`state` varchar(16) NOT NULL,`holder` varchar(36) NOT NULL,`beat` bigint NOT NULL,`step` bigint NOT NULL,`at_table` varchar(64) NOT NULL,`after_id` varchar(64) NOT NULL,`total` bigint NOT NULL,`rows` bigint NOT NULL,`changed` bigint NOT NULL,`skipped` bigint NOT NULL,`created_at` datetime(3) NULL,`updated_at` datetime(3) NULL,PRIMARY KEY (`id`));
CREATE TABLE `phi_merges` (`tenant_id` varchar(64),`from_id` varchar(36),`entity` varchar(64),`record_id` varchar(36),`into_id` varchar(36) NOT NULL,`mac` longblob,`created_at` datetime(3) NULL,PRIMARY KEY (`tenant_id`,`from_id`,`entity`,`record_id`),INDEX `idx_phi_merges_into_id` (`into_id`));
CREATE TABLE `phi_files` (`id` varchar(36),`tenant_id` varchar(64) NOT NULL,`version` bigint NOT NULL,`created_at` datetime(3) NULL,`updated_at` datetime(3) NULL,`subject_id` varchar(36) NOT NULL,`class` varchar(20) NOT NULL,`size` bigint NOT NULL,`content` longblob,PRIMARY KEY (`id`),INDEX `idx_phi_files_tenant_id` (`tenant_id`),INDEX `idx_phi_files_subject_id` (`subject_id`));
ALTER TABLE `phi_files` ADD CONSTRAINT `phi_cell_phi_files_content` CHECK (`content` IS NULL OR length(`content`) >= 34 AND hex(substr(`content`, 1, 2)) = 'F901');

-- +goose Down
-- Nothing: what is dropped here cannot be opened or made again.
