import type { Assignors } from '../../coordinator/assignors/assignor.ts';
import type { Random } from '../../time/clock.ts';
import type { Logger } from '../../time/logger.ts';
import type { AckRounds } from '../rounds/ack-rounds.ts';
import type { Jumps } from '../rounds/jumps.ts';
import type { Moves } from '../rounds/moves.ts';
import type { FeedParts } from '../dispatch/feed.ts';
import type { LostAttempts } from '../kept/lost-attempts.ts';
import type { MayGrow } from '../kept/growth.ts';
import type { DeliveryRoom } from '../dispatch/delivery-room.ts';
import type { GroupWriter } from './group-writer.ts';
import type { HandOut } from '../dispatch/piece.ts';
import type { SlowReaders } from '../dispatch/slow-readers.ts';
import type { SubscriptionLives } from './subscription-life.ts';

/** Counts over all groups, since the start of this owner. */
interface CoordinationCounts {
  rebalances: number;
  rebalanceMs: number;
  heartbeats: number;
  sessionTimeouts: number;
  /** Calls rejected because the member was removed or fenced. */
  fencedCalls: number;
  /** Offsets that CommitOffsets committed. */
  commits: number;
}

/** What all groups share. */
export interface GroupContext extends HandOut, FeedParts {
  readonly random: Random;
  readonly writer: GroupWriter;
  readonly lives: SubscriptionLives;
  /** The name of a topic; undefined for one that was deleted. */
  readonly topicName: (topicId: number) => string | undefined;
  readonly rounds: AckRounds;
  /** Called with the topics whose cursors are written. */
  readonly onCursorsWritten: (topicIds: ReadonlySet<number>) => void;
  readonly moves: Moves;
  readonly jumps: Jumps;
  readonly lostAttempts: LostAttempts;
  readonly assignors: Assignors;
  readonly slowReaders: SlowReaders;
  readonly deliveryRoom: DeliveryRoom;
  readonly log: Logger;
  readonly counts: CoordinationCounts;
  /** False while this broker cannot be sure that it still owns its groups. */
  readonly mayDeliver: () => boolean;
  readonly mayGrow: MayGrow;
  /** The partitions of a group that move in one turn of the event loop. */
  readonly movesAtOnce: number;
}
