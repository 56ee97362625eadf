import type { LogName } from '../../log/lanes.ts';
import type { ListedLog } from './views.ts';

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

export interface SubscriptionView {
  readonly subscription: SubscriptionDetails;
  /** Ordered by partition and lane. */
  readonly logs: readonly ListedLog[];
}

/** A subscription in a list. */
export interface ListedSubscription {
  readonly row: { readonly id: number; readonly groupId: number; readonly topicId: number };
}
