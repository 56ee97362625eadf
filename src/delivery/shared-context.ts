import type { AckRing } from '../commit/ack-ring.ts';
import type { AckLogStore } from '../commit/store.ts';
import type { Commits } from '../commit/unit.ts';
import type { Assignors } from '../coordinator/assignors/assignor.ts';
import { builtInAssignors } from '../coordinator/assignors/built-in.ts';
import type { TunableLimits } from '../limits/limits.ts';
import type { BatchCodec } from '../log/batch.ts';
import type { GapReason } from '../retention/gap.ts';
import type { Clock, Random } from '../time/clock.ts';
import type { Account } from '../account/account.ts';
import type { Owner } from '../account/owner.ts';
import { AckRounds } from './rounds/ack-rounds.ts';
import { Jumps } from './rounds/jumps.ts';
import { Moves } from './rounds/moves.ts';
import type { GroupContext } from './groups/context.ts';
import { Kept } from './kept/kept.ts';
import { LostAttempts } from './kept/lost-attempts.ts';
import { DeliveryRoom } from './dispatch/delivery-room.ts';
import { FeedMemory } from './dispatch/feed-memory.ts';
import type { MayGrow } from './kept/growth.ts';
import { GroupWriter } from './groups/group-writer.ts';
import { SubscriptionLives } from './groups/subscription-life.ts';
import type { TopicLogs } from './groups/subscriptions.ts';
import { SlowReaders, type SlowReadersDeps } from './dispatch/slow-readers.ts';
import type { GroupStore } from './ports/store.ts';

export interface DeliveryDeps {
  readonly store: GroupStore;
  /** Where acks become durable. */
  readonly commits: AckLogStore;
  /** Where acks become durable together with publishes. */
  readonly settlements: Commits;
  readonly ring: AckRing;
  readonly topics: TopicLogs;
  readonly codec: BatchCodec;
  /** Default: the built-in assignors. */
  readonly assignors?: Assignors;
  /** It stands still while this process is stopped. */
  readonly clock: Clock;
  /** Runs on meanwhile. Default: `clock`. */
  readonly steadyClock?: Clock;
  readonly random: Random;
  readonly account: Account;
  /** Counts what this broker keeps. It closes with the broker. */
  readonly owner: Owner;
  readonly limits: SlowReadersDeps['limits'] & Pick<TunableLimits, 'groupMembersMax' | 'offsetRetentionMs'>;
  /** False while this broker cannot be sure that it still owns its groups. */
  readonly mayDeliver: () => boolean;
  readonly mayGrow: MayGrow;
  readonly onFenced: () => void;
  /** Called with the topics whose cursors a fold or a reset has written. Default: nobody asks. */
  readonly onCursorsWritten?: (topicIds: ReadonlySet<number>) => void;
  readonly log: GroupContext['log'];
  /** How many groups are loaded together. Default: 100. */
  readonly loadedTogetherMax?: number;
  /** How many partitions of a group move in one turn of the event loop. Default: 10,000. */
  readonly movesAtOnce?: number;
}

const movesAtOnce = 10_000;

/** What all groups share. */
export function sharedContext(deps: DeliveryDeps): GroupContext {
  const { store, commits, ring, clock, random, codec, mayDeliver, mayGrow, onFenced } = deps;
  const onCursorsWritten = deps.onCursorsWritten ?? (() => undefined);
  const rounds = new AckRounds({
    store,
    commits,
    ring,
    clock,
    onFenced,
    onFolded: onCursorsWritten,
    onFoldFailed: (error) => {
      deps.log.warn({ err: error }, 'the ack log could not be folded into the cursors; it is tried again');
    },
  });
  const moves = new Moves(rounds);
  const gapReason = (topicId: number): GapReason => deps.topics.gapReason(topicId);
  const lives = new SubscriptionLives({
    clock: deps.steadyClock ?? clock,
    log: deps.log,
    live: (topicId, change) => {
      deps.topics.liveSubscriptions?.(topicId, change);
    },
  });
  const onSubscriptions = lives.changed.bind(lives);
  return {
    clock,
    lives,
    topicName: (topicId) => deps.topics.partitionLogs(topicId)[0]?.address.topicName,
    memory: new FeedMemory(deps.account),
    random,
    codec,
    assignors: deps.assignors ?? builtInAssignors,
    mayDeliver,
    kept: new Kept(deps.owner),
    lostAttempts: new LostAttempts(deps),
    mayGrow,
    rounds,
    onCursorsWritten,
    moves,
    jumps: new Jumps({ store, moves, rounds, clock, log: deps.log, gapReason, onFenced }),
    writer: new GroupWriter({ store, clock, random, onFenced, onSubscriptions }),
    slowReaders: new SlowReaders(deps),
    deliveryRoom: new DeliveryRoom(deps),
    delivered: { records: 0, bytes: 0 },
    log: deps.log,
    movesAtOnce: deps.movesAtOnce ?? movesAtOnce,
    counts: { rebalances: 0, rebalanceMs: 0, heartbeats: 0, sessionTimeouts: 0, fencedCalls: 0, commits: 0 },
  };
}
