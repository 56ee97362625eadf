import { Account } from '../../src/account/account.ts';
import { budgetOf } from '../../src/account/budget.ts';
import type { KindName } from '../../src/account/kinds.ts';
import { limits } from '../../src/limits/limits.ts';

const mib = 1_048_576;

/** The account of a broker with the default settings. */
export function roomyAccount(): Account {
  return smallAccount({});
}

/** An account like `roomyAccount`, with other limits of some kinds. */
export function smallAccount(bytesMax: Partial<Record<KindName, number>>): Account {
  const budget = budgetOf(256 * mib, limits);
  return new Account({ ...budget, kinds: { ...budget.kinds, ...bytesMax } });
}
