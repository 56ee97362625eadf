-- Room for namespaces: a topic or a group is found by its namespace and its name. There is only namespace 0 yet. Everything else refers to ids.

ALTER TABLE millrace.topics
  ADD COLUMN namespace_id integer NOT NULL DEFAULT 0,
  DROP CONSTRAINT topics_name_key,
  ADD CONSTRAINT topics_namespace_name_key UNIQUE (namespace_id, name);

ALTER TABLE millrace.consumer_groups
  ADD COLUMN namespace_id integer NOT NULL DEFAULT 0,
  DROP CONSTRAINT consumer_groups_name_key,
  ADD CONSTRAINT consumer_groups_namespace_name_key UNIQUE (namespace_id, name);
