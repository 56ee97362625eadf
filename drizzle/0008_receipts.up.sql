-- What is settled together with an append has a row of the ack log in the same transaction. Its receipts say so to a broker that lost the
-- answer; rounds have none.
ALTER TABLE millrace.ack_log_0 ADD COLUMN receipts text[] NOT NULL DEFAULT '{}';
ALTER TABLE millrace.ack_log_1 ADD COLUMN receipts text[] NOT NULL DEFAULT '{}';
ALTER TABLE millrace.ack_log_2 ADD COLUMN receipts text[] NOT NULL DEFAULT '{}';

DROP FUNCTION millrace.append_acks(text, integer, bigint, integer, integer[], integer[], integer[], bigint[], integer[],
  bigint[], integer[], bigint[], integer[], integer[], bigint[], text[]);

-- Fence and row in one statement: a round is a transaction by itself, a settlement is among the statements of its append.
CREATE FUNCTION millrace.append_acks(
  fence_broker text, fence_slot integer, fence_epoch bigint, ring_table integer,
  subscription_ids integer[], partitions integer[], lanes integer[], committed_offsets bigint[],
  acked_counts integer[], acked bigint[], attempt_counts integer[], attempts bigint[],
  resets integer[], metadata_at integer[], metadata_seqs bigint[], metadata text[],
  receipts text[]
) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
  PERFORM millrace.fence(fence_broker, fence_slot, fence_epoch);
  CASE ring_table
    WHEN 0 THEN
      INSERT INTO millrace.ack_log_0 VALUES (subscription_ids, partitions, lanes, committed_offsets,
        acked_counts, acked, attempt_counts, attempts, resets, metadata_at, metadata_seqs, metadata, receipts);
    WHEN 1 THEN
      INSERT INTO millrace.ack_log_1 VALUES (subscription_ids, partitions, lanes, committed_offsets,
        acked_counts, acked, attempt_counts, attempts, resets, metadata_at, metadata_seqs, metadata, receipts);
    WHEN 2 THEN
      INSERT INTO millrace.ack_log_2 VALUES (subscription_ids, partitions, lanes, committed_offsets,
        acked_counts, acked, attempt_counts, attempts, resets, metadata_at, metadata_seqs, metadata, receipts);
  END CASE;
END $$;
