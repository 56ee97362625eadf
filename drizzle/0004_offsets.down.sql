-- An older broker would take what was acked before a reset for what is acked. Without the log, what was acked since the last
-- fold comes again instead.
DO $$
BEGIN
  IF EXISTS (SELECT FROM millrace.cursors WHERE resets > 0) THEN
    TRUNCATE millrace.ack_log_0, millrace.ack_log_1, millrace.ack_log_2;
  END IF;
END $$;

DROP INDEX millrace.subscriptions_group;
ALTER TABLE millrace.consumer_groups DROP COLUMN empty_since;

DROP FUNCTION millrace.append_acks(text, integer, bigint, integer, integer[], integer[], integer[], bigint[], integer[],
  bigint[], integer[], bigint[], integer[], integer[], bigint[], text[]);
ALTER TABLE millrace.ack_log_0 DROP COLUMN resets, DROP COLUMN metadata_at, DROP COLUMN metadata_seqs, DROP COLUMN metadata;
ALTER TABLE millrace.ack_log_1 DROP COLUMN resets, DROP COLUMN metadata_at, DROP COLUMN metadata_seqs, DROP COLUMN metadata;
ALTER TABLE millrace.ack_log_2 DROP COLUMN resets, DROP COLUMN metadata_at, DROP COLUMN metadata_seqs, DROP COLUMN metadata;
ALTER TABLE millrace.cursors DROP COLUMN resets, DROP COLUMN metadata, DROP COLUMN metadata_seq;

-- As 0003_groups made it.
CREATE FUNCTION millrace.append_acks(
  fence_broker text, fence_slot integer, fence_epoch bigint, ring_table integer,
  subscription_ids integer[], partitions integer[], lanes integer[], committed_offsets bigint[],
  acked_counts integer[], acked bigint[], attempt_counts integer[], attempts bigint[]
) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
  PERFORM millrace.fence(fence_broker, fence_slot, fence_epoch);
  CASE ring_table
    WHEN 0 THEN
      INSERT INTO millrace.ack_log_0 VALUES (subscription_ids, partitions, lanes, committed_offsets,
        acked_counts, acked, attempt_counts, attempts);
    WHEN 1 THEN
      INSERT INTO millrace.ack_log_1 VALUES (subscription_ids, partitions, lanes, committed_offsets,
        acked_counts, acked, attempt_counts, attempts);
    WHEN 2 THEN
      INSERT INTO millrace.ack_log_2 VALUES (subscription_ids, partitions, lanes, committed_offsets,
        acked_counts, acked, attempt_counts, attempts);
  END CASE;
END $$;
