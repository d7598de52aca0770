CREATE TABLE `assertions` (
	`id` text PRIMARY KEY NOT NULL,
	`expires_at_ms` integer NOT NULL
);
--> statement-breakpoint
-- The next hello brings facts in their present form.
UPDATE `node` SET `facts` = NULL;--> statement-breakpoint
UPDATE `assignments` SET `body` = json_set(`body`,
  '$.devices', json('[]'), '$.spec.seccomp', json('{"deny":[]}'), '$.spec.on_deviation', 'report',
  '$.spec.capabilities', json('["CAP_CHOWN","CAP_DAC_OVERRIDE","CAP_FOWNER","CAP_SETGID","CAP_SETUID","CAP_KILL"]'),
  '$.spec.resources.disk_bytes', 1073741824, '$.spec.resources.open_files', 16384,
  '$.spec.resources.log_bytes_per_second', 1048576, '$.spec.resources.io', json('{}'), '$.spec.resources.accelerators', json('[]'));
