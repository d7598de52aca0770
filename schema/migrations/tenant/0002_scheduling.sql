ALTER TABLE `containers` ADD `history` text DEFAULT '[]' NOT NULL;--> statement-breakpoint
ALTER TABLE `runs` ADD `cut_off` integer DEFAULT false NOT NULL;--> statement-breakpoint
ALTER TABLE `runs` ADD `evacuating` text;