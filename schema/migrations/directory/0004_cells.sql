ALTER TABLE `tenants` ADD `told_revision` integer DEFAULT 0 NOT NULL;--> statement-breakpoint
CREATE INDEX `tenants_untold` ON `tenants` (`id`) WHERE told_revision < revision;