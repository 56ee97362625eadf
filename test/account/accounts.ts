import { Account } from '../../src/account/account.ts';
import { budgetOf } from '../../src/account/budget.ts';
import type { KindName } from '../../src/account/kinds.ts';
import { Kept } from '../../src/delivery/kept/kept.ts';
import { limits } from '../../src/limits/limits.ts';

const mib = 1_048_576;

/** The account of a broker with the default settings. */
export function roomyAccount(): Account {
  return smallAccount({});
}

/** For groups and their parts, in an account of their own. */
export function roomyKept(): Kept {
  return new Kept(roomyAccount().owner());
}

/** An account like `roomyAccount`, with other limits of some kinds. */
export function smallAccount(bytesMax: Partial<Record<KindName, number>>): Account {
  const budget = budgetOf(256 * mib, limits);
  return new Account({ ...budget, kinds: { ...budget.kinds, ...bytesMax } });
}
