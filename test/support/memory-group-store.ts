import type { AckTable } from '../../src/commit/ack-ring.ts';
import type { AckLogStore, AckRow } from '../../src/commit/store.ts';
import { begunAt, mergeDelta, type CursorSnapshot } from '../../src/consumption/partitioned/cursor.ts';
import type { AssignmentRow, GroupChange, MemberId, MemberRow } from '../../src/coordinator/group.ts';
import {
  cursorName,
  type AckLogSize,
  type CreatedSubscription,
  type CursorJump,
  type CursorKey,
  type CursorReset,
  type FoldResult,
  type FoundInAckLog,
  type GroupEnd,
  type GroupStore,
  type LoadedGroup,
  type LogStart,
  type ListedGroup,
  type NewSubscription,
  type OwedRecords,
  type SavedChange,
  type StoredCursor,
  type StoredGap,
  type StoredRebalance,
  type SubscriptionChange,
  type SubscriptionInput,
  type SubscriptionRow,
  type ToldGap,
} from '../../src/delivery/ports/store.ts';
import { joinedGap } from '../../src/retention/gap.ts';
import { Fault } from '../../src/errors/fault.ts';
import { limits } from '../../src/limits/limits.ts';
import { MemorySubscriptions } from './groups/memory-subscriptions.ts';
import { startsAt } from './starts.ts';

interface GroupRow {
  readonly id: number;
  readonly name: string;
  generation: number;
  readonly members: Map<MemberId, MemberRow>;
  readonly assignments: Map<string, AssignmentRow>;
  readonly rebalances: Map<number, StoredRebalance>;
  emptySinceMs: number | null;
}

/** The cursors that rows of the ack log name, each once. */
export function namedIn(rows: Iterable<AckRow>): CursorKey[] {
  const keys = new Map<string, CursorKey>();
  for (const { deltas } of rows) for (const { key } of deltas) keys.set(cursorName(key), key);
  return [...keys.values()];
}

/** The rows with the deltas of some cursors only. */
function rowsWith(rows: readonly AckRow[], isWanted: (key: CursorKey) => boolean): AckRow[] {
  return rows.map((row) => ({ ...row, deltas: row.deltas.filter(({ key }) => isWanted(key)) }));
}

const byJoin = (a: MemberRow, b: MemberRow): number => a.joinSeq - b.joinSeq;

/** What the brokers of one database share of their groups. */
export class MemoryGroups {
  readonly groups: GroupRow[] = [];
  /** The ids of groups that were deleted are not given again. */
  groupsEver = 0;
  readonly subscriptions = new MemorySubscriptions();
  readonly cursors = new Map<string, StoredCursor>();
  /** The claim of each cursor: where it begins, and where it ends once it is cancelled. */
  readonly claims = new Map<string, { readonly start: number; readonly end: number | null }>();
  readonly ackLog: AckRow[] = [];
  /** What cursors have jumped over, until a reset. */
  readonly gaps = new Map<string, StoredGap>();
  /** How many partitions the topics have that a topic store made or that have grown. */
  readonly partitions = new Map<number, number>();
  /** Whether there is such a topic. Tests without a topic store have any. */
  hasTopic: (topicId: number) => boolean = () => true;
  /** Writes of a broker of another epoch are refused. */
  epoch = 1;
  /** The epoch of the owner, which notes signs of life. */
  ownerEpoch = (): number => this.epoch;
  /** The start of a log. Tests without segments have 0. */
  logStart: (topicId: number, partition: number, lane: number) => number = () => 0;

  /** The database's clock. */
  get nowMs(): () => number {
    return this.subscriptions.nowMs;
  }

  set nowMs(nowMs: () => number) {
    this.subscriptions.nowMs = nowMs;
  }

  isAttended = (groupId: number): boolean => (this.groups.find(({ id }) => id === groupId)?.members.size ?? 0) > 0;

  /** The owner has heard members of these groups. */
  heard(groupIds: readonly number[]): void {
    for (const id of groupIds) this.subscriptions.heardEpochs.set(id, this.ownerEpoch());
  }

  /** Writes the state of a cursor, unless the cursor was deleted or reset meanwhile. */
  fold(stored: StoredCursor): void {
    const known = this.cursors.get(cursorName(stored.key));
    if (known?.cursor.resets === stored.cursor.resets)
      this.cursors.set(cursorName(stored.key), structuredClone(stored));
  }

  /** The cursor with what these rows say of it; undefined: it is gone. */
  withRows(key: CursorKey, rows: Iterable<AckRow>): StoredCursor | undefined {
    const known = this.cursors.get(cursorName(key));
    if (known === undefined) return undefined;
    let { cursor } = known;
    for (const { deltas } of rows) {
      for (const one of deltas) if (cursorName(one.key) === cursorName(key)) cursor = mergeDelta(cursor, one.delta);
    }
    return structuredClone({ key, cursor });
  }

  /** Empties all tables of the ack log but the current one. @returns whether that one has rows. */
  truncateOthers(current: AckTable): boolean {
    const left = this.ackLog.filter(({ table }) => table === current);
    this.ackLog.splice(0, this.ackLog.length, ...left);
    return left.length > 0;
  }

  /** The subscriptions of a group or a topic that is gone, with their cursors. */
  remove(isGone: (row: SubscriptionRow) => boolean): void {
    const gone = new Set(this.subscriptions.all().flatMap((row) => (isGone(row) ? [row.id] : [])));
    for (const [name, { key }] of this.cursors) if (gone.has(key.subscriptionId)) this.cursors.delete(name);
    this.subscriptions.remove(({ id }) => gone.has(id));
  }

  listed({ id, name, members }: GroupRow): ListedGroup {
    const active = this.subscriptions.live().filter(({ groupId }) => groupId === id);
    const ids = new Set(active.map((row) => row.id));
    const cursors = [...this.cursors.values()].filter(({ key }) => ids.has(key.subscriptionId));
    const sum = (of: (one: StoredCursor['cursor']) => number): number =>
      cursors.reduce((all, { cursor }) => all + of(cursor), 0);
    const texts = ({ memberId, clientId, host, instanceId }: MemberRow): string =>
      memberId + clientId + host + (instanceId ?? '');
    const memberBytes = (row: MemberRow): number => row.metadata.length + Buffer.byteLength(texts(row));
    const size = {
      topicIds: active.map(({ topicId }) => topicId),
      cursors: cursors.length,
      notes: sum(({ metadata }) => (metadata === null ? 0 : 1)),
      noteBytes: sum(({ metadata }) => Buffer.byteLength(metadata?.text ?? '')),
      holes: sum(({ acked }) => acked.length / 2),
      attempts: sum(({ attempts }) => attempts.length / 2),
      members: members.size,
      memberBytes: [...members.values()].reduce((all, row) => all + memberBytes(row), 0),
    };
    return { id, name, size };
  }

  /** What the rows have by group, beside committed offsets. */
  sizesOf(rows: readonly AckRow[]): AckLogSize[] {
    const sizes = new Map<number, AckLogSize['size']>();
    for (const key of namedIn(rows)) {
      const groupId = this.subscriptions.find(key.subscriptionId)?.groupId;
      const deltas = rows.flatMap((row) => row.deltas.filter((one) => cursorName(one.key) === cursorName(key)));
      const { acked, attempts, metadata } = deltas.reduce((sum, { delta }) => mergeDelta(sum, delta), begunAt(0));
      if (groupId === undefined || (acked.length === 0 && attempts.length === 0 && metadata === null)) continue;
      const { notes, noteBytes, holes, ...before } = sizes.get(groupId) ?? {
        notes: 0,
        noteBytes: 0,
        holes: 0,
        attempts: 0,
      };
      sizes.set(groupId, {
        notes: notes + (metadata === null ? 0 : 1),
        noteBytes: noteBytes + Buffer.byteLength(metadata?.text ?? ''),
        holes: holes + acked.length / 2,
        attempts: before.attempts + attempts.length / 3,
      });
    }
    return Array.from(sizes, ([groupId, size]) => ({ groupId, size }));
  }

  hasReceipt(table: AckTable, receipt: string): boolean {
    return this.ackLog.some((row) => row.table === table && row.receipts.includes(receipt));
  }

  /**
   * The topic has so many partitions: what subscribes to it has a cursor in each, those that are
   * new at 0.
   */
  addPartitions(topicId: number, count: number): void {
    this.partitions.set(topicId, count);
    for (const row of this.subscriptions.live()) if (row.topicId === topicId) this.claim(row, []);
  }

  /**
   * Gives a subscription the cursors that it has not: at the starts that were chosen, at 0 in the
   * partitions beyond.
   */
  claim({ id, topicId }: SubscriptionRow, offsets: readonly LogStart[]): void {
    const present = startsAt(Array.from({ length: this.partitions.get(topicId) ?? 0 }, () => 0));
    for (const { partition, lane, offset } of [...offsets, ...present]) {
      const key = { subscriptionId: id, partition, lane };
      if (this.cursors.has(cursorName(key))) continue;
      const start = Math.max(offset, this.logStart(topicId, partition, lane));
      this.cursors.set(cursorName(key), { key, cursor: begunAt(start) });
      this.claims.set(cursorName(key), { start, end: null });
    }
  }

  /** Where a subscription starts, by partition. */
  startsOf(subscriptionId: number): LogStart[] {
    return [...this.cursors.values()]
      .filter(({ key }) => key.subscriptionId === subscriptionId)
      .map(({ key: { partition, lane }, cursor }) => {
        const claim = this.claims.get(cursorName({ subscriptionId, partition, lane }));
        return { partition, lane, offset: claim?.start ?? cursor.committedOffset };
      })
      .sort((a, b) => a.partition - b.partition || a.lane - b.lane);
  }

  endClaim(subscriptionId: number, ends: readonly LogStart[]): void {
    for (const { partition, lane, offset } of ends) {
      const name = cursorName({ subscriptionId, partition, lane });
      const claim = this.claims.get(name);
      if (claim !== undefined) this.claims.set(name, { ...claim, end: offset });
    }
  }
}

/** GroupStore in memory, with the faults that a test or the simulation asks for. */
export class MemoryGroupStore implements GroupStore, AckLogStore {
  readonly shared: MemoryGroups;
  readonly #epoch: number;
  /** Called before each write: may wait, or throw the fault that the write fails with. */
  before: (write: string) => Promise<void> | void = () => undefined;
  /** Called after each write, before its answer: throwing here is an answer that was lost. */
  after: (write: string) => Promise<void> | void = () => undefined;
  writes = 0;
  /** Called before each read: may wait, or throw the fault that the read fails with. */
  beforeRead: (read: string) => Promise<void> | void = () => undefined;
  /** Rows of the broker before that no fold has written; null: the ack log is not read yet. */
  inherited: readonly AckRow[] | null = null;
  /** Cursors that one write of a fold writes. */
  foldedTogetherMax = Infinity;

  constructor(shared = new MemoryGroups(), epoch = shared.epoch) {
    this.shared = shared;
    this.#epoch = epoch;
  }

  listGroups(): Promise<ListedGroup[]> {
    return this.#read('listGroups', () => this.shared.groups.map((group) => this.shared.listed(group)));
  }

  readAckLog(): Promise<FoundInAckLog> {
    return this.#read('readAckLog', () => {
      const { ackLog, subscriptions } = this.shared;
      const active = subscriptions.live();
      this.inherited = rowsWith(ackLog, ({ subscriptionId }) => active.some(({ id }) => id === subscriptionId));
      const { length: rounds } = this.inherited;
      return { cursors: namedIn(this.inherited).length, rounds, sizes: this.shared.sizesOf(this.inherited) };
    });
  }

  loadGroups(groupIds: readonly number[]): Promise<LoadedGroup[]> {
    const { groups, subscriptions } = this.shared;
    const rows = groups.filter(({ id }) => groupIds.includes(id));
    return this.#read('loadGroups', () =>
      rows.map(({ id, name, generation, members, assignments, emptySinceMs }) => ({
        id,
        name,
        snapshot: { generation, members: [...members.values()].sort(byJoin), assignments: [...assignments.values()] },
        subscriptions: subscriptions.live().filter((row) => row.groupId === id),
        emptyForMs: emptySinceMs === null ? null : this.shared.nowMs() - emptySinceMs,
      })),
    );
  }

  async loadCursors(
    subscriptionIds: readonly number[],
    visit: (stored: StoredCursor, inAckLog: boolean) => void,
  ): Promise<void> {
    const { inherited } = this;
    if (inherited === null) throw new Error('cursors are loaded after the ack log is read');
    const found = await this.#read('loadCursors', () => {
      const wanted = [...this.shared.cursors.values()].filter(({ key }) =>
        subscriptionIds.includes(key.subscriptionId),
      );
      return wanted.flatMap(({ key }) => this.shared.withRows(key, inherited) ?? []);
    });
    const named = new Set(namedIn(inherited).map(cursorName));
    for (const one of found) visit(one, named.has(cursorName(one.key)));
  }

  loadGaps(subscriptionIds: readonly number[]): Promise<StoredGap[]> {
    return this.#read('loadGaps', () =>
      [...this.shared.gaps.values()].filter(({ key }) => subscriptionIds.includes(key.subscriptionId)),
    );
  }

  cursorsLoaded(subscriptionIds: readonly number[]): void {
    if (this.inherited === null) return;
    this.inherited = rowsWith(this.inherited, ({ subscriptionId }) => !subscriptionIds.includes(subscriptionId));
  }

  createGroup(name: string): Promise<number> {
    return this.#write('createGroup', () => {
      const { groups, nowMs } = this.shared;
      const known = groups.find((group) => group.name === name);
      if (known !== undefined) return known.id;
      const id = ++this.shared.groupsEver;
      const nothing = { members: new Map(), assignments: new Map(), rebalances: new Map() };
      groups.push({ id, name, generation: 0, ...nothing, emptySinceMs: nowMs() });
      return id;
    });
  }

  endGroup(groupId: number, reason: GroupEnd, owed: readonly OwedRecords[]): Promise<boolean> {
    return this.#write('endGroup', () => {
      const { groups, subscriptions } = this.shared;
      const of = subscriptions.live().filter((row) => row.groupId === groupId);
      const isNeeded = this.shared.isAttended(groupId) || of.some(({ state }) => state !== 'DEAD');
      if (reason === 'OFFSET_RETENTION' && isNeeded) return false;
      subscriptions.ended(groupId, reason, owed);
      const ids = new Set(of.map(({ id }) => id));
      for (const [name, { key }] of this.shared.cursors) {
        if (ids.has(key.subscriptionId)) this.shared.cursors.delete(name);
      }
      const at = groups.findIndex(({ id }) => id === groupId);
      if (at >= 0) groups.splice(at, 1);
      return true;
    });
  }

  touchGroups(groupIds: readonly number[]): Promise<void> {
    return this.#write('touchGroups', () => {
      for (const group of this.shared.groups) {
        if (groupIds.includes(group.id) && group.emptySinceMs !== null) group.emptySinceMs = this.shared.nowMs();
      }
    });
  }

  saveGroups(changes: readonly SavedChange[], isRepeat: boolean): Promise<SubscriptionRow[]> {
    return this.#write('saveGroups', () => {
      const before = new Map(this.shared.groups.map(({ id, members }) => [id, new Set(members.keys())]));
      for (const { groupId, change } of changes) this.#save(groupId, change);
      const { subscriptions } = this.shared;
      this.shared.heard(changes.flatMap((one) => (one.heardAgoMs() === null ? [] : [one.groupId])));
      const ids = new Set(changes.map(({ groupId }) => groupId));
      const left = new Set<number>();
      for (const { id, members } of this.shared.groups) {
        if (ids.has(id) && [...(before.get(id) ?? [])].some((member) => !members.has(member))) left.add(id);
      }
      const came = new Set(changes.flatMap(({ groupId, change }) => (change.putMembers.length > 0 ? [groupId] : [])));
      const changed = subscriptions.saved(changes, { left, came }, this.shared.isAttended);
      return isRepeat ? subscriptions.live().filter(({ groupId }) => ids.has(groupId)) : changed;
    });
  }

  noteHeard(groupIds: readonly number[]): Promise<void> {
    return this.#write('noteHeard', () => {
      this.shared.heard(groupIds);
    });
  }

  loadRebalances(groupId: number): Promise<StoredRebalance[]> {
    const rows = this.shared.groups.find(({ id }) => id === groupId)?.rebalances.values() ?? [];
    return Promise.resolve([...rows].sort((a, b) => b.generation - a.generation).slice(0, limits.rebalancesKept));
  }

  createSubscriptions(wanted: readonly NewSubscription[]): Promise<CreatedSubscription[]> {
    return this.#write('createSubscriptions', () => {
      const { groups } = this.shared;
      for (const { groupId, topicId } of wanted) {
        const isKnown = this.shared.hasTopic(topicId) && groups.some(({ id }) => id === groupId);
        if (!isKnown) throw new Fault('DATA_REFUSED', `there is no group ${groupId} or no topic ${topicId}`);
      }
      return wanted.map((one) => this.#subscribe(one));
    });
  }

  changeSubscription(subscriptionId: number, input: SubscriptionInput): Promise<SubscriptionChange> {
    return this.#write(input.type === 'CANCEL' ? 'cancelSubscription' : 'changeSubscription', () => {
      const { subscriptions } = this.shared;
      const isOver = subscriptions.find(subscriptionId)?.state === 'CANCELLED';
      if (input.type === 'CANCEL' && !isOver) this.shared.endClaim(subscriptionId, input.ends);
      return subscriptions.change(subscriptionId, input, this.shared.isAttended);
    });
  }

  markDead(subscriptionIds: readonly number[]): Promise<SubscriptionRow[]> {
    return this.#write('markDead', () => this.shared.subscriptions.markDead(subscriptionIds));
  }

  saveGaps(jumps: readonly CursorJump[]): Promise<void> {
    return this.#write('saveGaps', () => {
      const { cursors, gaps } = this.shared;
      for (const { key, resets, gap } of jumps) {
        const name = cursorName(key);
        if (cursors.get(name)?.cursor.resets !== resets) continue;
        const before = gaps.get(name);
        const isOpen = before !== undefined && (!before.isTold || before.gap.last + 1 >= gap.first);
        gaps.set(name, { key, gap: joinedGap(isOpen ? before.gap : null, gap), isTold: false });
      }
    });
  }

  tellGaps(told: readonly ToldGap[]): Promise<void> {
    return this.#write('tellGaps', () => {
      const { gaps } = this.shared;
      for (const { key, last } of told) {
        const stored = gaps.get(cursorName(key));
        if (stored?.gap.last === last) gaps.set(cursorName(key), { ...stored, isTold: true });
      }
    });
  }

  resetCursors(resets: readonly CursorReset[]): Promise<number[]> {
    return this.#write('resetCursors', () => {
      const { cursors, claims, subscriptions } = this.shared;
      const changed = new Set<number>();
      const stored = resets.map(({ key, offset, resets: incarnation }) => {
        const known = cursors.get(cursorName(key));
        if (known === undefined) return offset;
        const { topicId, state } = subscriptions.find(key.subscriptionId)!;
        if (known.cursor.resets >= incarnation || state === 'CANCELLED')
          return claims.get(cursorName(key))?.start ?? offset;
        const start = Math.max(offset, this.shared.logStart(topicId, key.partition, key.lane));
        cursors.set(cursorName(key), { key, cursor: begunAt(start, incarnation) });
        claims.set(cursorName(key), { start, end: null });
        this.shared.gaps.delete(cursorName(key));
        changed.add(key.subscriptionId);
        return start;
      });
      subscriptions.claimed([...changed]);
      return stored;
    });
  }

  appendAcks(round: AckRow): Promise<void> {
    return this.#write('appendAcks', () => {
      this.shared.ackLog.push(structuredClone(round));
    });
  }

  async fold(current: AckTable, snapshots: () => Iterable<StoredCursor>, mayGoOn = () => true): Promise<FoldResult> {
    const written = new Set<string>();
    const write = async (piece: readonly StoredCursor[]): Promise<void> => {
      await this.#write('fold', () => {
        for (const stored of piece) this.shared.fold(stored);
      });
      for (const { key } of piece) written.add(cursorName(key));
    };
    for (const piece of pieces(snapshots(), this.foldedTogetherMax)) {
      if (written.size > 0 && !mayGoOn()) return 'CUT';
      await write(piece);
    }
    const { inherited } = this;
    if (inherited === null) return 'KEPT';
    const left = namedIn(inherited).filter((key) => !written.has(cursorName(key)));
    for (const piece of pieces(left, this.foldedTogetherMax)) {
      if (written.size > 0 && !mayGoOn()) return 'CUT';
      await write(piece.flatMap((key) => this.shared.withRows(key, inherited) ?? []));
    }
    return this.#write('truncate', () => {
      this.inherited = [];
      return this.shared.truncateOthers(current) ? 'KEPT' : 'EMPTIED';
    });
  }

  /** The cursor as a successor would find it. */
  cursor(key: CursorKey): Promise<CursorSnapshot | undefined> {
    return Promise.resolve(this.shared.withRows(key, this.shared.ackLog)?.cursor);
  }

  #save(groupId: number, change: GroupChange): void {
    const group = this.shared.groups.find(({ id }) => id === groupId);
    if (group === undefined) {
      if (change.putMembers.length + change.rebalances.length === 0) return;
      throw new Fault('DATA_REFUSED', `there is no group ${groupId}`);
    }
    group.generation = change.generation;
    for (const memberId of change.removedMembers) group.members.delete(memberId);
    for (const row of change.putMembers) group.members.set(row.memberId, row);
    if (group.members.size > 0) group.emptySinceMs = null;
    else group.emptySinceMs ??= this.shared.nowMs();
    for (const { topicId, partition } of change.removedAssignments) group.assignments.delete(`${topicId}/${partition}`);
    for (const row of change.rebalances) {
      // A save may be repeated: the first one counts.
      if (group.rebalances.has(row.generation)) continue;
      group.rebalances.set(row.generation, { ...row, endedAtMs: Math.floor(this.shared.nowMs()) });
      const latest = row.generation - limits.rebalancesKept;
      for (const generation of group.rebalances.keys()) if (generation <= latest) group.rebalances.delete(generation);
    }
    for (const row of change.putAssignments) group.assignments.set(`${row.topicId}/${row.partition}`, row);
  }

  #subscribe({ groupId, topicId, deadAfterMs, offsets }: NewSubscription): CreatedSubscription {
    const { subscriptions } = this.shared;
    const known = subscriptions.live().find((row) => row.groupId === groupId && row.topicId === topicId);
    const row = known ?? subscriptions.create(groupId, topicId, deadAfterMs);
    if (known === undefined) this.shared.claim(row, offsets);
    return { row, starts: this.shared.startsOf(row.id) };
  }

  async #read<T>(what: string, read: () => T): Promise<T> {
    await this.beforeRead(what);
    return read();
  }

  async #write<T>(what: string, write: () => T): Promise<T> {
    await this.before(what);
    if (this.#epoch !== this.shared.epoch) throw new Fault('FENCED', 'another broker has taken over');
    const result = write();
    this.writes++;
    await this.after(what);
    return result;
  }
}

/** All in pieces, each taken when its turn comes. */
export function* pieces<T>(all: Iterable<T>, count: number): Generator<readonly T[]> {
  let piece: T[] = [];
  for (const one of all) {
    piece.push(structuredClone(one));
    if (piece.length < count) continue;
    yield piece;
    piece = [];
  }
  if (piece.length > 0) yield piece;
}
