ALTER TABLE `nodes` ADD `devices` text DEFAULT '[]' NOT NULL;--> statement-breakpoint
ALTER TABLE `nodes` ADD `max_open_files` integer DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE `nodes` ADD `vulnerable` integer DEFAULT false NOT NULL;--> statement-breakpoint
ALTER TABLE `reservations` ADD `disk_bytes` integer DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE `reservations` ADD `devices` text;--> statement-breakpoint
-- A node says what it offers in another form now, and says it again at its next hello.
UPDATE `nodes` SET `profiles` = '[]', `ready` = false;
