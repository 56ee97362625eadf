/** The commands and outcomes of the broker's calls, in plain types. */

import type { NamedLog } from '../delivery/ports/offsets.ts';
import type { PartitionStatus, TopicPartition } from '../delivery/ports/session.ts';
import type { SubscriptionDetails } from '../delivery/ports/subscriptions.ts';
import type { GroupSummary, MemberDetails } from '../delivery/ports/views.ts';
import type { RetentionSettings } from '../retention/settings.ts';
import type { Page, PageRequest } from './pages/paging.ts';

export type * from '../delivery/ports/acks.ts';
export type * from '../delivery/ports/membership.ts';
export type * from '../delivery/ports/offsets.ts';
export type * from '../delivery/ports/subscriptions.ts';
export type * from '../delivery/ports/views.ts';
export type * from './pages/topic-storage.ts';
export type { MemberId } from '../delivery/ports/session.ts';
export type { StoredRebalance } from '../delivery/ports/store.ts';
export type { PublishCommand, PublishedRecords, PublishStreamToken } from '../commit/publish.ts';

export interface FetchOffsetsCommand {
  readonly group: string;
  /** Empty: all. */
  readonly partitions: readonly NamedLog[];
  readonly page: PageRequest;
}

/** A page of a group. */
export interface GroupPage {
  readonly group: GroupSummary;
  readonly members: readonly MemberDetails[];
  readonly partitions: readonly PartitionStatus[];
  readonly nextToken: string;
}

/** A subscription with a page of its cursors. */
export interface SubscriptionPage {
  readonly subscription: SubscriptionDetails;
  readonly partitions: Page<PartitionStatus>;
}

/** A page of the assignment of a member. */
export interface AssignmentPage {
  readonly generation: number;
  readonly partitions: readonly TopicPartition[];
  /** Those of `partitions` that are being revoked. */
  readonly revoking: readonly TopicPartition[];
  readonly nextToken: string;
}

export interface CreateTopicCommand {
  readonly name: string;
  readonly partitions: number;
  readonly idempotencyWindowMs: number;
  readonly description: string;
  readonly retention: RetentionSettings;
}

export interface UpdateTopicCommand {
  readonly name: string;
  readonly idempotencyWindowMs?: number;
  readonly description?: string;
  /** Only what changes. */
  readonly retention?: Partial<RetentionSettings>;
}

export interface AddPartitionsCommand {
  readonly name: string;
  /** The total after the call. */
  readonly partitions: number;
}

export interface TopicDetails {
  readonly name: string;
  readonly semantics: 'PUB_SUB';
  readonly partitions: number;
  readonly idempotencyWindowMs: number;
  readonly description: string;
  readonly createdAtMs: number;
  readonly retention: RetentionSettings;
}

export interface TopicExtent {
  readonly topic: TopicDetails;
  /** In order. */
  readonly partitions: Page<PartitionExtent>;
}

export interface PartitionExtent {
  readonly partition: number;
  readonly lane: number;
  readonly logStartOffset: number;
  readonly highWatermark: number;
  /** Below it every record is complete. It never falls. */
  readonly watermark: number;
}

export interface ReadMessagesCommand extends NamedLog {
  readonly from: { readonly offset: number } | { readonly timeUs: number } | null;
  readonly maxRecords: number;
  readonly maxBytes: number;
  /** Checks a first record that is larger than `maxBytes`. @throws Rejection */
  readonly checkRecord?: (batch: Buffer) => void;
}

export interface ReadMessagesOutcome {
  /** Encoded field 4 (see `EncodedBatch.bytes`), one for each batch. */
  readonly fields: readonly Buffer[];
  readonly nextOffset: number;
  readonly highWatermark: number;
  readonly logStartOffset: number;
}
