CREATE TABLE `registry_credentials` (
	`id` text PRIMARY KEY NOT NULL,
	`registry` text NOT NULL,
	`username` text NOT NULL,
	`sealed` text NOT NULL,
	`created_at_ms` integer NOT NULL,
	`last_used_ms` integer
);
