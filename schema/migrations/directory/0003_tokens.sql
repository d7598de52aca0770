CREATE TABLE `revoked_tokens` (
	`id` text PRIMARY KEY NOT NULL,
	`until_ms` integer NOT NULL
);
--> statement-breakpoint
CREATE TABLE `trusts` (
	`id` text PRIMARY KEY NOT NULL,
	`tenant_id` text NOT NULL,
	`name` text NOT NULL,
	`issuer` text NOT NULL,
	`audience` text NOT NULL,
	`conditions` text NOT NULL,
	`scopes` text NOT NULL,
	`details` text NOT NULL,
	`max_lifetime_seconds` integer NOT NULL,
	`created_at_ms` integer NOT NULL
);
--> statement-breakpoint
CREATE INDEX `trusts_tenant` ON `trusts` (`tenant_id`,`id`);--> statement-breakpoint
ALTER TABLE `signing_keys` ADD `sealed` text;--> statement-breakpoint
ALTER TABLE `signing_keys` ADD `signs_from_ms` integer;--> statement-breakpoint
ALTER TABLE `signing_keys` ADD `distrusted_at_ms` integer;