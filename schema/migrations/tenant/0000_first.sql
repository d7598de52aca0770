CREATE TABLE `containers` (
	`id` text PRIMARY KEY NOT NULL,
	`name` text,
	`spec` text NOT NULL,
	`cpus` real NOT NULL,
	`memory_bytes` integer NOT NULL,
	`created_at_ms` integer NOT NULL,
	`desired` text NOT NULL,
	`desired_since_ms` integer NOT NULL,
	`paused` integer NOT NULL,
	`stop_timeout_seconds` integer,
	`restarting` integer NOT NULL,
	`latest_run_id` text,
	`next_run_at_ms` integer,
	`restarts` integer NOT NULL,
	`backoff_step` integer NOT NULL,
	`lost_attempts` integer NOT NULL,
	`image_digest` text,
	`status` text NOT NULL,
	`active` integer NOT NULL,
	`wake_at_ms` integer,
	`removed_at_ms` integer
);
--> statement-breakpoint
CREATE UNIQUE INDEX `containers_live_name` ON `containers` (`name`) WHERE removed_at_ms is null;--> statement-breakpoint
CREATE INDEX `containers_active` ON `containers` (`cpus`,`memory_bytes`) WHERE active = 1;--> statement-breakpoint
CREATE INDEX `containers_wake` ON `containers` (`wake_at_ms`) WHERE wake_at_ms is not null;--> statement-breakpoint
CREATE INDEX `containers_removed` ON `containers` (`removed_at_ms`) WHERE removed_at_ms is not null;--> statement-breakpoint
CREATE TABLE `events` (
	`seq` integer PRIMARY KEY AUTOINCREMENT NOT NULL,
	`id` text NOT NULL,
	`type` text NOT NULL,
	`time_ms` integer NOT NULL,
	`container_id` text,
	`container_name` text,
	`run_id` text,
	`data` text NOT NULL
);
--> statement-breakpoint
CREATE UNIQUE INDEX `events_id` ON `events` (`id`);--> statement-breakpoint
CREATE INDEX `events_container` ON `events` (`container_id`);--> statement-breakpoint
CREATE TABLE `idempotency` (
	`subject` text NOT NULL,
	`key` text NOT NULL,
	`fingerprint` text NOT NULL,
	`container_id` text NOT NULL,
	`status` integer NOT NULL,
	`answer` text,
	`expires_at_ms` integer NOT NULL,
	PRIMARY KEY(`subject`, `key`)
);
--> statement-breakpoint
CREATE INDEX `idempotency_expiry` ON `idempotency` (`expires_at_ms`);--> statement-breakpoint
CREATE TABLE `runs` (
	`id` text PRIMARY KEY NOT NULL,
	`container_id` text NOT NULL,
	`attempt` integer NOT NULL,
	`created_at_ms` integer NOT NULL,
	`cell_id` text,
	`node_id` text,
	`region` text,
	`state` text NOT NULL,
	`since_ms` integer NOT NULL,
	`revision` integer NOT NULL,
	`paused` integer NOT NULL,
	`present` integer NOT NULL,
	`reason` text,
	`exit` text,
	`image_digest` text,
	`started_at_ms` integer,
	`finished_at_ms` integer,
	`timings` text NOT NULL,
	`wish_desired` text NOT NULL,
	`wish_paused` integer NOT NULL,
	`wish_stop_timeout_seconds` integer,
	`assign_due` integer NOT NULL,
	`release_due` integer NOT NULL,
	`retry_at_ms` integer
);
--> statement-breakpoint
CREATE INDEX `runs_container` ON `runs` (`container_id`);--> statement-breakpoint
CREATE INDEX `runs_retry` ON `runs` (`retry_at_ms`) WHERE retry_at_ms is not null;--> statement-breakpoint
CREATE TABLE `settings` (
	`id` integer PRIMARY KEY NOT NULL,
	`tenant_id` text NOT NULL,
	`name` text NOT NULL,
	`quota` text NOT NULL,
	`cells` text NOT NULL
);
