-- The tables of part164 itself.

-- +goose Up
CREATE TABLE `phi_meta` (`id` integer,`database_id` text NOT NULL,`generation` integer NOT NULL,`tombstones` integer NOT NULL DEFAULT 0,`absent` integer NOT NULL DEFAULT 0,`mac` blob,PRIMARY KEY (`id`));
CREATE TABLE `phi_tenant_keys` (`tenant_id` text,`purpose` text,`wrapped` blob NOT NULL,`created_at` datetime,PRIMARY KEY (`tenant_id`,`purpose`));
CREATE TABLE `phi_subject_keys` (`tenant_id` text,`subject_id` text,`version` integer,`wrapped` blob,`shredded` numeric NOT NULL,`closed` numeric NOT NULL DEFAULT false,`created_at` datetime,PRIMARY KEY (`tenant_id`,`subject_id`,`version`));
CREATE TABLE `phi_outbox` (`attempt` text,`writer` text NOT NULL,`digest` blob NOT NULL,`mac` blob NOT NULL,PRIMARY KEY (`attempt`));
CREATE INDEX `idx_phi_outbox_writer` ON `phi_outbox`(`writer`);
CREATE TABLE `phi_index` (`tenant_id` text,`field` text,`token` blob,`record_id` text,`subject_id` text NOT NULL,`key_version` integer NOT NULL,`unique_token` blob,PRIMARY KEY (`tenant_id`,`field`,`token`,`record_id`));
CREATE INDEX `phi_index_record` ON `phi_index`(`tenant_id`,`record_id`);
CREATE UNIQUE INDEX `phi_index_unique` ON `phi_index`(`tenant_id`,`field`,`unique_token`);
CREATE TABLE `phi_tables` (`name` text,PRIMARY KEY (`name`));
CREATE TABLE `phi_jobs` (`id` text,`tenant_id` text NOT NULL,`kind` text NOT NULL,`name` text NOT NULL,`state` text NOT NULL,`holder` text NOT NULL,`beat` integer NOT NULL,`step` integer NOT NULL,`at_table` text NOT NULL,`after_id` text NOT NULL,`total` integer NOT NULL,`rows` integer NOT NULL,`changed` integer NOT NULL,`skipped` integer NOT NULL,`created_at` datetime,`updated_at` datetime,PRIMARY KEY (`id`));
CREATE TABLE `phi_merges` (`tenant_id` text,`from_id` text,`entity` text,`record_id` text,`into_id` text NOT NULL,`mac` blob,`created_at` datetime,PRIMARY KEY (`tenant_id`,`from_id`,`entity`,`record_id`));
CREATE INDEX `idx_phi_merges_into_id` ON `phi_merges`(`into_id`);
CREATE TABLE `phi_files` (`id` text,`tenant_id` text NOT NULL,`version` integer NOT NULL,`created_at` datetime,`updated_at` datetime,`subject_id` text NOT NULL,`class` text NOT NULL,`size` integer NOT NULL,`content` blob,PRIMARY KEY (`id`));
CREATE INDEX `idx_phi_files_subject_id` ON `phi_files`(`subject_id`);
CREATE INDEX `idx_phi_files_tenant_id` ON `phi_files`(`tenant_id`);
-- +goose StatementBegin
CREATE TRIGGER `phi_cell_phi_files_content_i` BEFORE INSERT ON `phi_files` WHEN NOT (NEW.`content` IS NULL OR typeof(NEW.`content`) = 'blob' AND length(NEW.`content`) >= 34 AND substr(NEW.`content`, 1, 2) = x'F901') BEGIN SELECT RAISE(ABORT, 'part164: phi_files.content takes sealed cells only'); END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER `phi_cell_phi_files_content_u` BEFORE UPDATE ON `phi_files` WHEN NOT (NEW.`content` IS NULL OR typeof(NEW.`content`) = 'blob' AND length(NEW.`content`) >= 34 AND substr(NEW.`content`, 1, 2) = x'F901') BEGIN SELECT RAISE(ABORT, 'part164: phi_files.content takes sealed cells only'); END;
-- +goose StatementEnd

-- +goose Down
-- Nothing: what is dropped here cannot be opened or made again.
