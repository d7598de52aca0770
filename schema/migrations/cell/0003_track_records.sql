CREATE TABLE `track_records` (
	`node_id` text PRIMARY KEY NOT NULL,
	`images` text NOT NULL,
	`failures` real NOT NULL,
	`failed_at_ms` integer NOT NULL
);
--> statement-breakpoint
DROP INDEX `reservations_node`;