import { NOBODY, type Assignment, type AssignorInput } from './assignor.ts';

/** A member that reads a topic. */
interface Link {
  readonly member: number;
  /** The index of the topic in the input. */
  readonly topic: number;
  /** Partitions of the topic that the member holds and keeps. */
  kept: number;
  /** Partitions of the topic that the member holds and gives up. */
  lost: number;
  /** Partitions of the topic that the member gains. */
  received: number;
}

/**
 * The balanced assignment with the fewest moves where members read different topics.
 *
 * It is a minimum-cost flow. Its nodes are members and topics, members first. A unit that leaves a
 * member for its topic costs one move if the member held it. A unit that returns costs minus one.
 * All other links are free. The flow begins with the current assignment, which costs nothing. Then
 * a block of nodes, at first all, is brought below a ceiling: members above it pass units along
 * cheapest paths to members below it. Cheapest first keeps the cost minimal for the sizes reached
 * (successive shortest paths), so no unit is ever taken back by trial.
 *
 * The ceiling of a block is its average size, because balanced assignments stay below it as far as
 * they can. The nodes that are still reachable from members above the ceiling become a block of
 * their own, because no link leads out of it, now or later. A block thus splits until its sizes
 * differ by one. (Lowering the greatest size by one each time is simpler, but took 20 s when 1,000
 * members joined one that held 100,000 partitions. This takes 0.1 s.)
 */
export class LeastMoves {
  readonly #input: AssignorInput;
  readonly #linksOfMember: Link[][];
  readonly #linksOfTopic: Link[][];
  /** For each member the number of its partitions. */
  readonly #size: Int32Array;
  readonly #memberCount: number;
  /** For each node its block. */
  readonly #blockOf: Int32Array;
  #blocks = 1;
  /** For each node the moves that a unit costs on its way there. */
  readonly #cost: Float64Array;
  /** For each node the number of its layer; -1: in none. */
  readonly #layer: Int32Array;
  /** For each node the link from which the path search continues; earlier links lead nowhere. */
  readonly #nextLink: Int32Array;

  constructor(input: AssignorInput, readers: readonly (readonly number[])[]) {
    this.#input = input;
    this.#memberCount = input.members.length;
    const nodes = this.#memberCount + input.topics.length;
    this.#size = new Int32Array(this.#memberCount);
    this.#blockOf = new Int32Array(nodes);
    this.#cost = new Float64Array(nodes);
    this.#layer = new Int32Array(nodes);
    this.#nextLink = new Int32Array(nodes);
    this.#linksOfMember = input.members.map(() => []);
    this.#linksOfTopic = readers.map((some, topic) =>
      some.map((member) => {
        const link = { member, topic, kept: 0, lost: 0, received: 0 };
        this.#linksOfMember[member]?.push(link);
        return link;
      }),
    );
  }

  assign(): Assignment {
    const orphans = this.#linksOfTopic.map((_, topic) => this.#keepAll(topic));
    orphans.forEach((count, topic) => {
      this.#pour(topic, count);
    });
    const blocks = [Array.from(this.#blockOf.keys())];
    for (let block = blocks.pop(); block !== undefined; block = blocks.pop()) blocks.push(...this.#even(block));
    return this.#writeDown();
  }

  /** Leaves each held partition with its holder. @returns the number of partitions without one. */
  #keepAll(topic: number): number {
    const { topicId, partitions } = at(this.#input.topics, topic);
    const previous = this.#input.previous.get(topicId);
    const byMember = new Map(at(this.#linksOfTopic, topic).map((link) => [link.member, link]));
    let orphans = 0;
    for (let partition = 0; partition < partitions; partition++) {
      const link = byMember.get(previous?.[partition] ?? NOBODY);
      if (link === undefined) {
        orphans++;
      } else {
        link.kept++;
        this.#resize(link.member, 1);
      }
    }
    return orphans;
  }

  /**
   * Gives free partitions to the smallest readers. Any place is right; a good one saves work later.
   */
  #pour(topic: number, count: number): void {
    const links = [...at(this.#linksOfTopic, topic)].sort((a, b) => this.#sizeOf(a.member) - this.#sizeOf(b.member));
    let turn = 0;
    for (let left = links.length > 0 ? count : 0; left > 0; left--) {
      const link = at(links, turn);
      link.received++;
      this.#resize(link.member, 1);
      const next = links[turn + 1];
      turn = next !== undefined && this.#sizeOf(next.member) < this.#sizeOf(link.member) ? turn + 1 : 0;
    }
  }

  /**
   * Evens out the sizes in a block down to one ceiling. @returns the blocks that may need more
   * work.
   */
  #even(block: readonly number[]): number[][] {
    const members = block.filter((node) => node < this.#memberCount);
    const average = members.reduce((sum, member) => sum + this.#sizeOf(member), 0) / members.length;
    if (members.length < 2) return [];
    const above = this.#lower(block, Math.ceil(average) + 1);
    if (above.length > 0) return [above, this.#without(block, above)];
    // No member is above the average now. If the average is a whole number, none is below it
    // either.
    if (Number.isInteger(average)) return [];
    return [this.#without(block, this.#lower(block, Math.ceil(average)))];
  }

  /** Makes the rest of a block a block of its own. */
  #without(block: readonly number[], part: readonly number[]): number[] {
    const parted = this.#blocks++;
    for (const node of part) this.#blockOf[node] = parted;
    return block.filter((node) => this.#blockOf[node] !== parted);
  }

  /**
   * Members at or above the ceiling pass units to members two or more below it. Returns the nodes
   * that are reachable from the members that remain.
   */
  #lower(block: readonly number[], ceiling: number): number[] {
    for (let cost = this.#search(block, ceiling); cost < Infinity; cost = this.#search(block, ceiling)) {
      while (this.#layOut(block, ceiling, cost)) this.#passOn(block, ceiling, cost);
    }
    return block.filter((node) => at(this.#cost, node) < Infinity);
  }

  /**
   * Finds the cost of a unit from a member at the ceiling to each node and to the cheapest taker.
   */
  #search(block: readonly number[], ceiling: number): number {
    for (const node of block) this.#cost[node] = Infinity;
    const queue = this.#givers(block, ceiling);
    for (const member of queue) this.#cost[member] = 0;
    const queued = new Uint8Array(this.#cost.length);
    for (let head = 0; head < queue.length; head++) {
      const node = at(queue, head);
      queued[node] = 0;
      for (const link of this.#linksOf(node)) {
        const next = this.#otherEnd(link, node);
        const cost = at(this.#cost, node) + this.#costOver(link, node);
        if (this.#blockOf[next] !== this.#blockOf[node] || cost >= at(this.#cost, next)) continue;
        this.#cost[next] = cost;
        if (queued[next] === 0) queue.push(next);
        queued[next] = 1;
      }
    }
    const takers = block.filter((node) => node < this.#memberCount && this.#sizeOf(node) <= ceiling - 2);
    return takers.reduce((least, member) => Math.min(least, at(this.#cost, member)), Infinity);
  }

  #givers(block: readonly number[], ceiling: number): number[] {
    return block.filter((node) => node < this.#memberCount && this.#sizeOf(node) >= ceiling);
  }

  /**
   * Numbers the nodes by their distance from the ceiling along cheapest links, up to the first
   * taker. Returns false without a taker. Layers keep the search from wandering through thousands
   * of members over free links, which took three times as long.
   */
  #layOut(block: readonly number[], ceiling: number, cost: number): boolean {
    for (const node of block) this.#layer[node] = -1;
    for (const node of block) this.#nextLink[node] = 0;
    // If another member at the ceiling reaches this one for less than nothing, a path passes it.
    const queue = this.#givers(block, ceiling).filter((member) => this.#cost[member] === 0);
    for (const member of queue) this.#layer[member] = 0;
    for (let head = 0; head < queue.length; head++) {
      const node = at(queue, head);
      if (this.#takes(node, ceiling, cost)) return true;
      for (const link of this.#linksOf(node)) {
        const next = this.#otherEnd(link, node);
        if (!this.#isCheapest(link, node, next) || this.#layer[next] !== -1) continue;
        this.#layer[next] = at(this.#layer, node) + 1;
        queue.push(next);
      }
    }
    return false;
  }

  /** Passes as many units as the layers allow. */
  #passOn(block: readonly number[], ceiling: number, cost: number): void {
    for (const member of this.#givers(block, ceiling)) {
      if (this.#layer[member] !== 0) continue;
      while (this.#sizeOf(member) >= ceiling && this.#push(member, ceiling, cost)) this.#resize(member, -1);
    }
  }

  /** Sends one unit from the node, layer by layer, until a member may keep it. */
  #push(node: number, ceiling: number, cost: number): boolean {
    if (this.#takes(node, ceiling, cost)) {
      this.#resize(node, 1);
      return true;
    }
    const links = this.#linksOf(node);
    for (let next = at(this.#nextLink, node); next < links.length; next++) {
      this.#nextLink[node] = next;
      if (this.#sendOver(at(links, next), node, ceiling, cost)) return true;
    }
    this.#nextLink[node] = links.length;
    return false;
  }

  #sendOver(link: Link, from: number, ceiling: number, cost: number): boolean {
    const to = this.#otherEnd(link, from);
    if (!this.#isCheapest(link, from, to) || at(this.#layer, to) !== at(this.#layer, from) + 1) return false;
    if (!this.#push(to, ceiling, cost)) return false;
    if (from < this.#memberCount) giveUp(link);
    else take(link);
    return true;
  }

  #takes(node: number, ceiling: number, cost: number): boolean {
    return node < this.#memberCount && this.#sizeOf(node) <= ceiling - 2 && this.#cost[node] === cost;
  }

  #isCheapest(link: Link, from: number, to: number): boolean {
    if (this.#blockOf[to] !== this.#blockOf[from]) return false;
    const cost = this.#costOver(link, from);
    return cost < Infinity && at(this.#cost, to) === at(this.#cost, from) + cost;
  }

  /**
   * The cost of one more unit over the link from this end; Infinity if there is no unit to send.
   */
  #costOver(link: Link, from: number): number {
    if (from >= this.#memberCount) return link.lost > 0 ? -1 : 0;
    if (link.received > 0) return 0;
    return link.kept > 0 ? 1 : Infinity;
  }

  #linksOf(node: number): readonly Link[] {
    return node < this.#memberCount ? at(this.#linksOfMember, node) : at(this.#linksOfTopic, node - this.#memberCount);
  }

  #otherEnd(link: Link, node: number): number {
    return node < this.#memberCount ? this.#memberCount + link.topic : link.member;
  }

  #sizeOf(member: number): number {
    return at(this.#size, member);
  }

  #resize(member: number, by: number): void {
    this.#size[member] = this.#sizeOf(member) + by;
  }

  /**
   * Turns the counts into partitions. A member keeps the lowest of the partitions that it holds.
   */
  #writeDown(): Assignment {
    return new Map(
      this.#input.topics.map(({ topicId, partitions }, topic) => {
        const links = at(this.#linksOfTopic, topic);
        return [topicId, owners(links, partitions, this.#input.previous.get(topicId))] as const;
      }),
    );
  }
}

function owners(links: readonly Link[], partitions: number, previous: Int32Array | undefined): Int32Array {
  const found = new Int32Array(partitions).fill(NOBODY);
  const byMember = new Map(links.map((link) => [link.member, link]));
  const takers = links.flatMap((link) => new Array<number>(link.received).fill(link.member));
  let taken = 0;
  for (let partition = 0; partition < partitions && links.length > 0; partition++) {
    const link = byMember.get(previous?.[partition] ?? NOBODY);
    if (link !== undefined && link.kept > 0) {
      link.kept--;
      found[partition] = link.member;
    } else {
      found[partition] = at(takers, taken++);
    }
  }
  return found;
}

/** A unit leaves the link's member: preferably one that the member did not hold before. */
function giveUp(link: Link): void {
  if (link.received > 0) {
    link.received--;
  } else {
    link.kept--;
    link.lost++;
  }
}

/** A unit comes to the link's member: preferably one that the member held before. */
function take(link: Link): void {
  if (link.lost > 0) {
    link.lost--;
    link.kept++;
  } else {
    link.received++;
  }
}

function at<T>(items: ArrayLike<T>, index: number): T {
  const item = items[index];
  if (item === undefined) throw new RangeError(`no item ${index} of ${items.length}`);
  return item;
}
