/**
 * Ways in which a broker or its database can be made wrong on purpose, each of which one of the checks has to find: a check that
 * cannot fail says nothing.
 */
export type Sabotage =
  | null
  /** Writes as whatever epoch the fence names. */
  | 'IGNORES_THE_FENCE'
  /** Says of an append that it is durable, and has not written it. */
  | 'LOSES_A_COMMIT'
  /** Says of acks that they are durable, and has not written them. */
  | 'LOSES_ACKS'
  /** Takes groups over without the acks that were not folded yet. */
  | 'FORGETS_ACKS'
  /** Takes groups over as they were one generation ago. */
  | 'REPEATS_A_GENERATION'
  /** Lets an ack of any member and generation count. */
  | 'COUNTS_ACKS_OF_OTHERS'
  /** Delivers for as long as its process runs, whatever became of its lease. */
  | 'DELIVERS_WITHOUT_A_LEASE'
  /** Appends a publish again that has been appended already. */
  | 'FORGETS_IDEMPOTENCY_KEYS'
  /** Finds nothing in the database that is not in memory any more. */
  | 'READS_NOTHING';
