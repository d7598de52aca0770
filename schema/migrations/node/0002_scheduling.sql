ALTER TABLE `assignments` ADD `cut_off` integer DEFAULT false NOT NULL;--> statement-breakpoint
ALTER TABLE `assignments` ADD `cut_off_due` integer DEFAULT false NOT NULL;--> statement-breakpoint
ALTER TABLE `node` ADD `cordoned` integer DEFAULT false NOT NULL;--> statement-breakpoint
ALTER TABLE `node` ADD `cordon_reason` text;--> statement-breakpoint
ALTER TABLE `node` ADD `drain` text;--> statement-breakpoint
ALTER TABLE `node` ADD `exclusive_to` text;