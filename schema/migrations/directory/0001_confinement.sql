ALTER TABLE `tenants` ADD `policy` text DEFAULT '{}' NOT NULL;--> statement-breakpoint
ALTER TABLE `tenants` ADD `revision` integer DEFAULT 1 NOT NULL;