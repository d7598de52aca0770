CREATE TABLE `deliveries` (
	`webhook_id` text NOT NULL,
	`seq` integer NOT NULL,
	`state` text NOT NULL,
	`tries` integer NOT NULL,
	`first_attempt_ms` integer NOT NULL,
	`last_attempt_ms` integer NOT NULL,
	`next_attempt_ms` integer,
	PRIMARY KEY(`webhook_id`, `seq`)
);
--> statement-breakpoint
CREATE INDEX `deliveries_due` ON `deliveries` (`webhook_id`,`next_attempt_ms`) WHERE next_attempt_ms is not null;--> statement-breakpoint
CREATE INDEX `deliveries_age` ON `deliveries` (`last_attempt_ms`);--> statement-breakpoint
CREATE TABLE `delivery_attempts` (
	`id` integer PRIMARY KEY AUTOINCREMENT NOT NULL,
	`webhook_id` text NOT NULL,
	`seq` integer NOT NULL,
	`at_ms` integer NOT NULL,
	`status_code` integer,
	`error` text,
	`latency_ms` integer NOT NULL,
	`answer` text NOT NULL
);
--> statement-breakpoint
CREATE INDEX `delivery_attempts_of` ON `delivery_attempts` (`webhook_id`,`seq`);--> statement-breakpoint
CREATE TABLE `replays` (
	`id` integer PRIMARY KEY AUTOINCREMENT NOT NULL,
	`webhook_id` text NOT NULL,
	`seq` integer NOT NULL,
	`until_seq` integer NOT NULL
);
--> statement-breakpoint
CREATE TABLE `webhooks` (
	`id` text PRIMARY KEY NOT NULL,
	`created_at_ms` integer NOT NULL,
	`url` text NOT NULL,
	`types` text NOT NULL,
	`labels` text NOT NULL,
	`description` text NOT NULL,
	`keys` text NOT NULL,
	`disabled_reason` text,
	`seq` integer NOT NULL,
	`hold_until_ms` integer DEFAULT 0 NOT NULL,
	`failures` integer DEFAULT 0 NOT NULL,
	`failing_since_ms` integer,
	`last_attempt_ms` integer,
	`last_success_ms` integer
);
