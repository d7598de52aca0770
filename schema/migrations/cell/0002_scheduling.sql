ALTER TABLE `identity` ADD `weights` text;--> statement-breakpoint
ALTER TABLE `identity` ADD `revision` integer DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE `nodes` ADD `exclusive_to` text;--> statement-breakpoint
ALTER TABLE `reservations` ADD `group` text;--> statement-breakpoint
ALTER TABLE `reservations` ADD `anti_affinity` text;