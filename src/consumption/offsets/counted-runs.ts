/** A run of offsets with the same count: a node of the tree. */
interface Run {
  readonly first: number;
  last: number;
  readonly count: number;
  /** The highest count in the subtree of this run. */
  countMax: number;
  /** A parent has a higher rank than its children. */
  readonly rank: number;
  before: Tree;
  behind: Tree;
}

type Tree = Run | null;

/**
 * Counts of offsets, as runs of equal counts in an ordered tree. A look-up or a removal costs the
 * logarithm of the number of runs. `add` costs that for each run that it changes.
 *
 * The tree is a treap: ordered by offset, with the highest rank on top. Ranks look random, so the
 * tree is about as deep as a balanced one, whatever the offsets are. They follow from a counter,
 * so that the cursor stays deterministic.
 */
export class CountedRuns {
  #root: Tree = null;
  #made = 0;
  /** The number of runs. */
  #size = 0;

  get isEmpty(): boolean {
    return this.#root === null;
  }

  get runs(): number {
    return this.#size;
  }

  /** The count of the offset; 0 if it has none. */
  of(offset: number): number {
    let run = this.#root;
    while (run !== null && (offset < run.first || offset > run.last))
      run = offset < run.first ? run.before : run.behind;
    return run?.count ?? 0;
  }

  /** The lowest offset of first … last with a count of at least `countMin`, if there is one. */
  lowest(first: number, last: number, countMin: number): number | undefined {
    return lowest(this.#root, first, last, countMin);
  }

  /** Adds first … last, which lie behind all other offsets, with their count. */
  append(first: number, last: number, count: number): void {
    this.#root = this.#join(this.#root, this.#run(first, last, count));
  }

  /**
   * Raises the count of each offset of first … last by one. Changes nothing if there would be more
   * than `runsMax` runs. @returns whether the counts have changed.
   */
  add(first: number, last: number, runsMax: number): boolean {
    const [below, rest] = this.#split(this.#root, first);
    const [within, behind] = this.#split(rest, last + 1);
    const raised = this.#raised(within, first, last);
    const joined = Number(joins(below, raised)) + Number(joins(raised, behind));
    const fits = this.#size - sizeOf(within) - joined <= runsMax;
    const [kept, dropped] = fits ? [raised, within] : [within, raised];
    this.#size -= sizeOf(dropped);
    this.#root = this.#join(this.#join(below, kept), behind);
    return fits;
  }

  /** Forgets the counts of first … last. */
  remove(first: number, last: number): void {
    if (this.#root === null || last < first) return;
    const [below, rest] = this.#split(this.#root, first);
    const [within, behind] = this.#split(rest, last + 1);
    this.#size -= sizeOf(within);
    this.#root = merged(below, behind);
  }

  /** Visits the runs within first … last, ascending, cut to these bounds. */
  each(first: number, last: number, visit: (first: number, last: number, count: number) => void): void {
    each(this.#root, first, last, visit);
  }

  /** first … last with the counts of `within`, which are 0 in its gaps, raised by one. */
  #raised(within: Tree, first: number, last: number): Tree {
    let raised: Tree = null;
    let next = first;
    each(within, 0, Infinity, (from, to, count) => {
      if (from > next) raised = this.#join(raised, this.#run(next, from - 1, 1));
      raised = this.#join(raised, this.#run(from, to, count + 1));
      next = to + 1;
    });
    return next <= last ? this.#join(raised, this.#run(next, last, 1)) : raised;
  }

  /** Splits a tree in two: the offsets below `offset`, and the rest. */
  #split(tree: Tree, offset: number): [below: Tree, from: Tree] {
    if (tree === null) return [null, null];
    if (tree.last < offset) {
      const [below, from] = this.#split(tree.behind, offset);
      tree.behind = below;
      return [summed(tree), from];
    }
    if (tree.first >= offset) {
      const [below, from] = this.#split(tree.before, offset);
      tree.before = from;
      return [below, summed(tree)];
    }
    const rest = merged(this.#run(offset, tree.last, tree.count), tree.behind);
    tree.last = offset - 1;
    tree.behind = null;
    return [summed(tree), rest];
  }

  /** Merges two trees. Two runs that touch and have the same count become one run. */
  #join(below: Tree, above: Tree): Tree {
    const left = outermost(below, 'behind');
    const right = outermost(above, 'before');
    if (left === null || right === null || !touch(left, right)) return merged(below, above);
    const [, rest] = this.#split(above, right.last + 1);
    left.last = right.last;
    this.#size--;
    return merged(below, rest);
  }

  #run(first: number, last: number, count: number): Run {
    this.#size++;
    return { first, last, count, countMax: count, rank: scattered(this.#made++), before: null, behind: null };
  }
}

/** Merges two trees. All offsets of the first are below those of the second. */
function merged(below: Tree, above: Tree): Tree {
  if (below === null || above === null) return below ?? above;
  if (below.rank > above.rank) {
    below.behind = merged(below.behind, above);
    return summed(below);
  }
  above.before = merged(below, above.before);
  return summed(above);
}

function summed(run: Run): Run {
  run.countMax = Math.max(run.count, run.before?.countMax ?? 0, run.behind?.countMax ?? 0);
  return run;
}

/** Whether the last run of the one tree and the first of the other become one run. */
function joins(below: Tree, above: Tree): boolean {
  const left = outermost(below, 'behind');
  const right = outermost(above, 'before');
  return left !== null && right !== null && touch(left, right);
}

function touch(left: Run, right: Run): boolean {
  return left.last + 1 === right.first && left.count === right.count;
}

function sizeOf(tree: Tree): number {
  return tree === null ? 0 : sizeOf(tree.before) + 1 + sizeOf(tree.behind);
}

function outermost(tree: Tree, side: 'before' | 'behind'): Tree {
  let run = tree;
  while (run !== null && run[side] !== null) run = run[side];
  return run;
}

function lowest(tree: Tree, first: number, last: number, countMin: number): number | undefined {
  if (tree === null || tree.countMax < countMin) return undefined;
  if (tree.last < first) return lowest(tree.behind, first, last, countMin);
  const before = tree.first > first ? lowest(tree.before, first, last, countMin) : undefined;
  if (before !== undefined || tree.first > last) return before;
  return tree.count >= countMin ? Math.max(tree.first, first) : lowest(tree.behind, first, last, countMin);
}

function each(
  tree: Tree,
  first: number,
  last: number,
  visit: (first: number, last: number, count: number) => void,
): void {
  if (tree === null) return;
  if (tree.first > first) each(tree.before, first, last, visit);
  if (tree.first <= last && tree.last >= first) {
    visit(Math.max(tree.first, first), Math.min(tree.last, last), tree.count);
  }
  if (tree.last < last) each(tree.behind, first, last, visit);
}

/** Maps a counter to 32 bits that look random: the finalizer of MurmurHash3. */
function scattered(n: number): number {
  let bits = n + 0x9e3779b9;
  bits = Math.imul(bits ^ (bits >>> 16), 0x85ebca6b);
  bits = Math.imul(bits ^ (bits >>> 13), 0xc2b2ae35);
  return (bits ^ (bits >>> 16)) >>> 0;
}
