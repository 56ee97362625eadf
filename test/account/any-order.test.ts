import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Account } from '../../src/account/account.ts';
import { budgetOf } from '../../src/account/budget.ts';
import type { Hold } from '../../src/account/hold.ts';
import type { KindName } from '../../src/account/kinds.ts';
import type { Owner } from '../../src/account/owner.ts';
import { limits } from '../../src/limits/limits.ts';

const names = ['notes', 'keys', 'bodies', 'tail'] as const satisfies readonly KindName[];
const kindMax = { notes: 60, keys: 50, bodies: 80, tail: 90 };
const poolMax = { kept: 100, passing: 100, buffers: 120 };
const budget = budgetOf(256 * 1_048_576, limits);

/** A step: what is done, to which kind, by which of three owners, with how many bytes. */
const step = fc.record({
  does: fc.constantFrom('hold', 'take', 'force', 'resize', 'release', 'close'),
  name: fc.constantFrom(...names),
  owner: fc.nat(2),
  nth: fc.nat(10),
  bytes: fc.nat(100),
});

test('an account that was used in any order counts something that nobody holds, or forgets what is held', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const account = new Account({ pools: poolMax, kinds: { ...budget.kinds, ...kindMax } });
      const owners: Owner[] = [account.owner(), account.owner(), account.owner()];
      /** The dumb oracle: each hold with its bytes, as long as somebody has it. */
      let held: { hold: Hold; owner: Owner; name: (typeof names)[number]; bytes: number }[] = [];
      // The oldest of the cache go where there is no room.
      account.kind('tail').onShort((short) => {
        for (let left = short; left > 0;) {
          const oldest = held.find(({ name }) => name === 'tail');
          if (oldest === undefined) return;
          left -= oldest.bytes;
          oldest.hold.release();
          held = held.filter((other) => other !== oldest);
        }
      });
      const sum = (of: readonly string[]): number =>
        held.filter(({ name }) => of.includes(name)).reduce((total, { bytes }) => total + bytes, 0);

      for (const { does, name, owner: index, nth, bytes } of steps) {
        const owner = owners[index]!;
        const pool = name === 'notes' || name === 'keys' ? 'kept' : 'buffers';
        const fits = (more: number): boolean => {
          // What can go leaves room for all others, and for itself.
          const [ofKind, ofPool] =
            name === 'tail' ? [[], ['bodies']] : [[name], pool === 'kept' ? ['notes', 'keys'] : ['bodies']];
          return sum(ofKind) + more <= kindMax[name] && sum(ofPool) + more <= poolMax[pool];
        };
        const one = held[nth % Math.max(1, held.length)];
        if (does === 'hold') {
          const expected = fits(bytes);
          try {
            const hold = owner.kind(name).hold(bytes);
            held.push({ hold, owner, name, bytes });
            expect(expected).toBe(true);
          } catch (error) {
            expect(expected, String(error)).toBe(false);
          }
        } else if (does === 'force' && one !== undefined) {
          one.hold.force(bytes);
          one.bytes = bytes;
        } else if (does === 'take' && fits(bytes)) {
          // Without a hold, and given back at once, as by a call that is over soon.
          expect(owner.kind(name).take(bytes)).toBe(true);
          owner.kind(name).give(bytes);
        } else if (does === 'resize' && one?.name === name && name !== 'tail') {
          const expected = bytes <= one.bytes || fits(bytes - one.bytes);
          expect(one.hold.resize(bytes)).toBe(expected);
          if (expected) one.bytes = bytes;
        } else if (does === 'release' && one !== undefined) {
          one.hold.release();
          one.hold.release();
          held = held.filter((other) => other !== one);
        } else if (does === 'close') {
          owner.close();
          for (const { hold } of held.filter((each) => each.owner === owner)) hold.release();
          held = held.filter((each) => each.owner !== owner);
          owners[index] = account.owner();
        }
        for (const each of names) expect(account.kind(each).bytes).toBe(sum([each]));
        expect(account.poolBytes('kept').bytes).toBe(sum(['notes', 'keys']));
        expect(account.poolBytes('buffers').bytes).toBe(sum(['bodies', 'tail']));
      }
      for (const owner of owners) owner.close();
      for (const each of account.kinds()) expect(each.bytes).toBe(0);
    }),
  );
});
