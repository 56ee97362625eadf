/**
 * A fault is trouble with the database or the network, classified in `src/storage/pg/faults.ts`.
 *
 * - DATABASE_UNAVAILABLE: nothing happened; the caller may repeat the call later.
 * - OUTCOME_UNKNOWN: the connection broke after COMMIT was sent; it may have happened.
 * - FENCED: the fence row of this epoch is gone: another broker has taken over. Nothing happened.
 * - DATA_REFUSED: the database rejected the data (SQLSTATE class 22 or 23). Nothing happened.
 * - DISK_FULL: the database has no space left for a write. Nothing happened.
 * - DATABASE_READ_ONLY: the database takes no writes. Nothing happened.
 */
export type FaultKind =
  'DATABASE_UNAVAILABLE' | 'OUTCOME_UNKNOWN' | 'FENCED' | 'DATA_REFUSED' | 'DISK_FULL' | 'DATABASE_READ_ONLY';

export class Fault extends Error {
  override readonly name = 'Fault';
  readonly kind: FaultKind;

  constructor(kind: FaultKind, message: string, cause?: unknown) {
    super(message, { cause });
    this.kind = kind;
  }
}
