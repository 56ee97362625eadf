import type { PublishCommand, PublishedRecords } from '../../commit/publish.ts';
import type { OffsetRuns } from '../../consumption/partitioned/cursor.ts';
import type { MemberId } from '../../coordinator/group.ts';
import type { AckStatus } from './acks.ts';
import type { NamedLog } from './offsets.ts';

/** Acks of a member, and what is to be published if and only if they count. */
export interface SettleCommand {
  readonly group: string;
  readonly memberId: MemberId;
  readonly generation: number;
  readonly entries: readonly SettleEntry[];
  readonly publishes: readonly PublishCommand[];
}

export interface SettleEntry extends NamedLog {
  /** Runs [first, last, …], ascending, merged. All of them must be in flight at the member. */
  readonly runs: OffsetRuns;
}

export interface SettleOutcome {
  /** Of each entry. */
  readonly statuses: readonly AckStatus[];
  /** Where the records of each publish went; null: an entry was refused, and nothing was written. */
  readonly published: readonly PublishedRecords[] | null;
}
