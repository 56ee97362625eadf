import { Fault } from '../errors/fault.ts';
import type { GroupChange } from '../coordinator/group.ts';
import type { CursorDelta } from '../cursor/cursor.ts';
import type {
  AckRound,
  GroupStore,
  LoadedGroup,
  NewSubscription,
  StoredCursor,
  SubscriptionRow,
} from '../delivery/store.ts';
import { ackLogTables, appendRound, readRounds, truncateRounds, type AckLogTable, type FenceRow } from './ack-log.ts';
import type { Connection } from './connection.ts';
import { cursorName, mergeDeltas, readCursors, writeCursors } from './cursors.ts';
import { createGroup, loadGroups, saveGroups } from './group-rows.ts';
import { cancelSubscription, createSubscriptions } from './subscriptions.ts';
import type { Writer } from './writer.ts';
