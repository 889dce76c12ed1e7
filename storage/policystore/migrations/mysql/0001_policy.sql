-- The access policy, for storage/policystore.

-- +goose Up
CREATE TABLE IF NOT EXISTS `policy_rules` (`role` varbinary(64) NOT NULL,`tenant` varbinary(64) NOT NULL,`resource` varbinary(255) NOT NULL,`action` varbinary(255) NOT NULL,`purpose` varbinary(64) NOT NULL,`effect` varbinary(8) NOT NULL CHECK (`effect` IN ('allow','deny')),`revision` bigint NOT NULL,PRIMARY KEY (`role`,`tenant`,`resource`,`action`,`purpose`,`effect`));
CREATE TABLE IF NOT EXISTS `policy_links` (`kind` varbinary(8) NOT NULL CHECK (`kind` IN ('role','user')),`tenant` varbinary(64) NOT NULL,`member` varbinary(64) NOT NULL,`role` varbinary(64) NOT NULL,`revision` bigint NOT NULL,PRIMARY KEY (`kind`,`tenant`,`member`,`role`));
CREATE TABLE IF NOT EXISTS `policy_revision` (`id` smallint NOT NULL CHECK (`id` = 1),`revision` bigint NOT NULL,`head` varbinary(32),`state` varbinary(32),`mac` varbinary(32),`changed_at` bigint NOT NULL,PRIMARY KEY (`id`));
INSERT IGNORE INTO `policy_revision` (`id`,`revision`,`changed_at`) VALUES (1,0,0);
CREATE TABLE IF NOT EXISTS `policy_changes` (`id` varbinary(36) NOT NULL,`status` varbinary(16) NOT NULL CHECK (`status` IN ('proposed','applied','rejected')),`revision` bigint,`tenant` varbinary(64) NOT NULL,`author` varbinary(64) NOT NULL,`author_kind` varbinary(16) NOT NULL,`reason` varbinary(64) NOT NULL,`reference` varbinary(64) NOT NULL,`terminated` varbinary(64) NOT NULL,`terminated_tenant` varbinary(64) NOT NULL,`proposed_at` bigint NOT NULL,`approver` varbinary(64) NOT NULL,`approver_tenant` varbinary(64) NOT NULL,`decided_at` bigint NOT NULL,`edits` bigint NOT NULL,`previous` varbinary(32),`digest` varbinary(32),`mac` varbinary(32) NOT NULL,PRIMARY KEY (`id`),UNIQUE INDEX `policy_changes_revision` (`revision`),INDEX `policy_changes_status` (`status`,`proposed_at`));
CREATE TABLE IF NOT EXISTS `policy_edits` (`change_id` varbinary(36) NOT NULL,`seq` bigint NOT NULL,`op` varbinary(8) NOT NULL CHECK (`op` IN ('add','remove')),`kind` varbinary(8) NOT NULL CHECK (`kind` IN ('role','rule','user')),`tenant` varbinary(64) NOT NULL,`member` varbinary(64) NOT NULL,`role` varbinary(64) NOT NULL,`resource` varbinary(255) NOT NULL,`action` varbinary(255) NOT NULL,`purpose` varbinary(64) NOT NULL,`effect` varbinary(8) NOT NULL,PRIMARY KEY (`change_id`,`seq`));

-- +goose Down
-- Nothing: who changed the policy is kept for as long as your retention asks.
