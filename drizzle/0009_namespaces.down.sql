-- Fails where two namespaces have the same name: one of the two has to be renamed first.
ALTER TABLE millrace.consumer_groups
  DROP COLUMN namespace_id,
  ADD CONSTRAINT consumer_groups_name_key UNIQUE (name);

ALTER TABLE millrace.topics
  DROP COLUMN namespace_id,
  ADD CONSTRAINT topics_name_key UNIQUE (name);
