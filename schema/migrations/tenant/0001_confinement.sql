CREATE TABLE `notices` (
	`run_id` text NOT NULL,
	`id` text NOT NULL,
	`kind` text NOT NULL,
	PRIMARY KEY(`run_id`, `id`)
);
--> statement-breakpoint
ALTER TABLE `runs` ADD `devices` text;--> statement-breakpoint
ALTER TABLE `runs` ADD `features` text;--> statement-breakpoint
ALTER TABLE `runs` ADD `policy` text;--> statement-breakpoint
ALTER TABLE `runs` ADD `wish_network` text;--> statement-breakpoint
ALTER TABLE `settings` ADD `policy` text DEFAULT '{"capabilities":"default","on_deviation":"report","vulnerable_nodes":"allow"}' NOT NULL;--> statement-breakpoint
ALTER TABLE `settings` ADD `revision` integer DEFAULT 0 NOT NULL;--> statement-breakpoint
-- What a create body of before did not say, as a create body of now leaves it out.
UPDATE `containers` SET `spec` = json_set(`spec`, '$.seccomp', json('{"deny":[]}'),
  '$.resources.disk_bytes', 1073741824, '$.resources.open_files', 16384,
  '$.resources.log_bytes_per_second', 1048576, '$.resources.io', json('{}'), '$.resources.accelerators', json('[]'));--> statement-breakpoint
UPDATE `runs` SET `wish_network` = (SELECT `spec` -> '$.network' FROM `containers` WHERE `containers`.`id` = `runs`.`container_id`)
  WHERE `node_id` IS NOT NULL;
