ALTER TABLE `cells` ADD `weights` text DEFAULT '{}' NOT NULL;--> statement-breakpoint
ALTER TABLE `cells` ADD `revision` integer DEFAULT 1 NOT NULL;--> statement-breakpoint
ALTER TABLE `join_tokens` ADD `cell_id` text;