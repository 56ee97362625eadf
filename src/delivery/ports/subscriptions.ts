import type { LogName } from '../../log/lanes.ts';
import type { StateReason, SubscriptionState } from '../../subscription/life.ts';
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
  /** null: it never dies. Default: `limits.deadAfterMsDefault`. */
  readonly deadAfterMs?: number | null;
}

/** Selects the subscriptions of a list. */
export interface SubscriptionFilter {
  readonly group: string | null;
  readonly topic: string | null;
  /** An empty list selects subscriptions in any state. CANCELLED ones are not listed. */
  readonly states: readonly SubscriptionState[];
}

/** All times are those of the database's clock. */
export interface SubscriptionDetails {
  readonly id: number;
  readonly group: string;
  readonly topic: string;
  readonly state: SubscriptionState;
  readonly createdAtMs: number;
  readonly stateReason: StateReason;
  readonly stateChangedAtMs: number;
  /** null: it never dies. */
  readonly deadAfterMs: number | null;
  /** The last sign of life of its group; null with a member, and before the first one. */
  readonly unattendedSinceMs: number | null;
}

export interface SubscriptionView {
  readonly subscription: SubscriptionDetails;
  /** Ordered by partition and lane. */
  readonly logs: readonly ListedLog[];
}

/** A subscription in a list. */
export interface ListedSubscription {
  readonly row: {
    readonly id: number;
    readonly groupId: number;
    readonly topicId: number;
    readonly state: SubscriptionState;
  };
}
