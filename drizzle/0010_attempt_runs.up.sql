-- Ended attempts of neighbouring records with the same number are one run: `offset, -records, attempts`. A pair `offset, attempts` is one
-- record, as before, so rows of older brokers stay as they are. An older broker does not know runs: this version refuses its start.
COMMENT ON COLUMN millrace.cursors.attempts IS 'offset, attempts of one record, or offset, -records, attempts of a run';

-- A row of the ack log is one value of a read, so it has to be small. An older broker wrote each round as one row, however large. Larger
-- rows than 1 MiB become several; in which order rows come does not matter.
CREATE FUNCTION millrace.split_ack_rows(ring_table regclass) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
  round          record;
  acked_counts   integer[];
  attempt_counts integer[];
  metadata_at    integer[];
  metadata       text[];
  begins         integer;
  acked_begin    integer;
  attempts_begin integer;
  note_begin     integer;
  acked_end      integer;
  attempts_end   integer;
  note           integer;
  bytes          bigint;
BEGIN
  FOR round IN EXECUTE format('SELECT ctid AS place, * FROM %s AS r', ring_table) LOOP
    CONTINUE WHEN 8 * (cardinality(round.acked) + cardinality(round.attempts)) + 28 * cardinality(round.subscription_ids)
      + coalesce((SELECT sum(octet_length(one)) FROM unnest(round.metadata) AS one), 0) <= 1048576;
    EXECUTE format('DELETE FROM %s WHERE ctid = $1', ring_table) USING round.place;
    acked_counts := round.acked_counts;
    attempt_counts := round.attempt_counts;
    metadata_at := round.metadata_at;
    metadata := round.metadata;
    begins := 1; acked_begin := 1; attempts_begin := 1; note_begin := 1;
    acked_end := 0; attempts_end := 0; note := 1; bytes := 0;
    FOR n IN 1 .. cardinality(acked_counts) LOOP
      acked_end := acked_end + acked_counts[n];
      attempts_end := attempts_end + attempt_counts[n];
      bytes := bytes + 28 + 8 * (acked_counts[n] + attempt_counts[n]);
      IF metadata_at[note] = n - 1 THEN
        bytes := bytes + octet_length(metadata[note]);
        note := note + 1;
      END IF;
      CONTINUE WHEN bytes < 1000000 AND n < cardinality(acked_counts);
      EXECUTE format('INSERT INTO %s (subscription_ids, partitions, lanes, committed_offsets, acked_counts, acked, attempt_counts,
        attempts, resets, metadata_at, metadata_seqs, metadata, receipts) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)',
        ring_table)
      USING round.subscription_ids[begins : n], round.partitions[begins : n], round.lanes[begins : n],
        round.committed_offsets[begins : n], acked_counts[begins : n], round.acked[acked_begin : acked_end],
        attempt_counts[begins : n], round.attempts[attempts_begin : attempts_end], round.resets[begins : n],
        ARRAY(SELECT place - begins + 1 FROM unnest(metadata_at[note_begin : note - 1]) AS place),
        round.metadata_seqs[note_begin : note - 1], metadata[note_begin : note - 1],
        CASE WHEN begins = 1 THEN round.receipts ELSE '{}' END;
      begins := n + 1; acked_begin := acked_end + 1; attempts_begin := attempts_end + 1; note_begin := note; bytes := 0;
    END LOOP;
  END LOOP;
END $$;
SELECT millrace.split_ack_rows('millrace.ack_log_0'), millrace.split_ack_rows('millrace.ack_log_1'), millrace.split_ack_rows('millrace.ack_log_2');
DROP FUNCTION millrace.split_ack_rows(regclass);
