CREATE TABLE `identity` (
	`id` integer PRIMARY KEY NOT NULL,
	`cell_id` text NOT NULL
);
--> statement-breakpoint
CREATE TABLE `nodes` (
	`node_id` text PRIMARY KEY NOT NULL,
	`hostname` text NOT NULL,
	`capacity` text NOT NULL,
	`labels` text NOT NULL,
	`profiles` text NOT NULL,
	`ready` integer NOT NULL,
	`reason` text
);
--> statement-breakpoint
CREATE TABLE `reservations` (
	`run_id` text PRIMARY KEY NOT NULL,
	`node_id` text NOT NULL,
	`cpus` real NOT NULL,
	`memory_bytes` integer NOT NULL,
	`pids` integer NOT NULL
);
--> statement-breakpoint
CREATE INDEX `reservations_node` ON `reservations` (`node_id`);--> statement-breakpoint
CREATE TABLE `waiting` (
	`tenant_id` text PRIMARY KEY NOT NULL,
	`since_ms` integer NOT NULL
);
