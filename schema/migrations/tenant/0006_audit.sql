CREATE TABLE `audit_entries` (
	`seq` integer PRIMARY KEY NOT NULL,
	`time_ms` integer NOT NULL,
	`subject` text NOT NULL,
	`token_id` text NOT NULL,
	`request_id` text NOT NULL,
	`operation` text NOT NULL,
	`target` text,
	`result` text NOT NULL,
	`previous` text NOT NULL,
	`hash` text NOT NULL
);
