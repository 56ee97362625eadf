import type { LogName } from '../../log/lanes.ts';
import type { PartitionStatus } from './session.ts';

/** Subscriptions of a group, and where they start. */

export type StartPosition =
  | { readonly type: 'earliest' }
  | { readonly type: 'latest' }
  | {
      readonly type: 'offsets';
      readonly offset: number | null;
      readonly partitions: readonly (LogName & { readonly offset: number })[];
    }
  /** Microseconds since the epoch. */
  | { readonly type: 'time'; readonly timeUs: number };

export interface CreateSubscriptionCommand {
  readonly group: string;
  readonly topic: string;
  readonly start: StartPosition;
}

export interface SubscriptionDetails {
  readonly id: number;
  readonly group: string;
  readonly topic: string;
  readonly state: 'ACTIVE' | 'CANCELLED';
  readonly createdAtMs: number;
}

export interface SubscriptionWithCursors {
  readonly subscription: SubscriptionDetails;
  readonly partitions: readonly PartitionStatus[];
}
