import type { PublishCommand, PublishedRecords } from '../../commit/publish.ts';
import type { OffsetRuns } from '../../consumption/partitioned/cursor.ts';
import type { MemberId } from '../../coordinator/group.ts';
import type { AckStatus } from './acks.ts';
import type { NamedLog } from './offsets.ts';

/** Acks of a member, and records to publish if and only if the acks count. */
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
  /** One status for each entry. */
  readonly statuses: readonly AckStatus[];
  /** The offsets of each publish; null if an entry was rejected and nothing was written. */
  readonly published: readonly PublishedRecords[] | null;
}
