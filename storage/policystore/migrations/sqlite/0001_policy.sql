-- The access policy, for storage/policystore.

-- +goose Up
CREATE TABLE IF NOT EXISTS `policy_rules` (`role` text NOT NULL,`tenant` text NOT NULL,`resource` text NOT NULL,`action` text NOT NULL,`purpose` text NOT NULL,`effect` text NOT NULL CHECK (`effect` IN ('allow','deny')),`revision` integer NOT NULL,PRIMARY KEY (`role`,`tenant`,`resource`,`action`,`purpose`,`effect`)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS `policy_links` (`kind` text NOT NULL CHECK (`kind` IN ('role','user')),`tenant` text NOT NULL,`member` text NOT NULL,`role` text NOT NULL,`revision` integer NOT NULL,PRIMARY KEY (`kind`,`tenant`,`member`,`role`)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS `policy_revision` (`id` integer NOT NULL CHECK (`id` = 1),`revision` integer NOT NULL,`head` blob,`state` blob,`mac` blob,`changed_at` integer NOT NULL,PRIMARY KEY (`id`));
INSERT OR IGNORE INTO `policy_revision` (`id`,`revision`,`changed_at`) VALUES (1,0,0);
CREATE TABLE IF NOT EXISTS `policy_changes` (`id` text NOT NULL,`status` text NOT NULL CHECK (`status` IN ('proposed','applied','rejected')),`revision` integer,`tenant` text NOT NULL,`author` text NOT NULL,`author_kind` text NOT NULL,`on_behalf` text NOT NULL,`reason` text NOT NULL,`reference` text NOT NULL,`terminated` text NOT NULL,`terminated_tenant` text NOT NULL,`proposed_at` integer NOT NULL,`approver` text NOT NULL,`approver_tenant` text NOT NULL,`decided_at` integer NOT NULL,`edits` integer NOT NULL,`previous` blob,`digest` blob,`mac` blob NOT NULL,PRIMARY KEY (`id`));
CREATE UNIQUE INDEX IF NOT EXISTS `policy_changes_revision` ON `policy_changes` (`revision`);
CREATE INDEX IF NOT EXISTS `policy_changes_status` ON `policy_changes` (`status`,`proposed_at`);
CREATE TABLE IF NOT EXISTS `policy_edits` (`change_id` text NOT NULL,`seq` integer NOT NULL,`op` text NOT NULL CHECK (`op` IN ('add','remove')),`kind` text NOT NULL CHECK (`kind` IN ('role','rule','user')),`tenant` text NOT NULL,`member` text NOT NULL,`role` text NOT NULL,`resource` text NOT NULL,`action` text NOT NULL,`purpose` text NOT NULL,`effect` text NOT NULL,PRIMARY KEY (`change_id`,`seq`)) WITHOUT ROWID;

-- +goose Down
-- Nothing: who changed the policy is kept for as long as your retention asks.
