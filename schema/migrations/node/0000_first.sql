CREATE TABLE `assignments` (
	`run_id` text PRIMARY KEY NOT NULL,
	`tenant_id` text NOT NULL,
	`container_id` text NOT NULL,
	`desired` text NOT NULL,
	`body` text NOT NULL,
	`ended` integer NOT NULL,
	`orphaned` text
);
--> statement-breakpoint
CREATE INDEX `assignments_live` ON `assignments` (ended) WHERE ended = 0;--> statement-breakpoint
CREATE INDEX `assignments_orphaned` ON `assignments` (orphaned) WHERE orphaned is not null;--> statement-breakpoint
CREATE TABLE `node` (
	`id` integer PRIMARY KEY NOT NULL,
	`node_id` text NOT NULL,
	`cell_id` text NOT NULL,
	`facts` text,
	`condition` text,
	`connected` integer NOT NULL,
	`last_seen_ms` integer,
	`lease_until_ms` integer,
	`version` integer NOT NULL,
	`operator_labels` text NOT NULL,
	`cell_due` integer NOT NULL,
	`forgotten` integer NOT NULL
);
