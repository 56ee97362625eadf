import { describe, expect, test } from 'vitest';
import { Account } from '../../src/account/account.ts';
import { budgetOf } from '../../src/account/budget.ts';
import { kinds, type KindName } from '../../src/account/kinds.ts';
import { limits } from '../../src/limits/limits.ts';
import { smallAccount } from './accounts.ts';

const mib = 1_048_576;
const at256 = budgetOf(256 * mib, limits);

/** What is counted of the kinds that have something. */
function counted(account: Account): Record<string, number> {
  const some = [...account.kinds()].filter(({ bytes }) => bytes > 0);
  return Object.fromEntries(some.map(({ name, bytes }) => [name, bytes]));
}

describe('limits', () => {
  test('a take beyond the limit of its kind is counted although it was refused', () => {
    const account = smallAccount({ notes: 100 });
    const notes = account.kind('notes');
    expect([notes.take(60), notes.take(41), notes.take(40), notes.take(1)]).toEqual([true, false, true, false]);
    expect(counted(account)).toEqual({ notes: 100 });
    expect(notes.refused).toBe(2);
    notes.give(100);
    expect(counted(account)).toEqual({});
  });

  test('several kinds, each within its limit, fill the heap together', () => {
    const account = new Account({ ...at256, pools: { ...at256.pools, kept: 100 } });
    expect(account.kind('groups').take(70)).toBe(true);
    expect(account.kind('cursors').take(31)).toBe(false);
    expect(account.kind('streams').take(31)).toBe(true);
    expect(account.poolBytes('kept')).toEqual({ bytes: 70, bytesMax: 100 });
    expect(account.mayKeep).toBe(true);
    expect(account.kind('cursors').take(30)).toBe(true);
    expect(account.mayKeep).toBe(false);
  });

  test('what happened already and cannot be refused is not counted beyond the limit', () => {
    const notes = smallAccount({ notes: 100 }).kind('notes');
    notes.force(150);
    expect([notes.bytes, notes.excess, notes.take(0)]).toEqual([150, 50, false]);
    notes.give(60);
    expect([notes.excess, notes.take(10)]).toEqual([0, true]);
  });

  test('a heap that is full although the sums say otherwise takes more kept state, or no calls either', () => {
    const account = new Account(at256, () => false);
    expect([account.mayKeep, account.kind('groups').take(1), account.kind('streams').take(1)]).toEqual([
      false,
      false,
      true,
    ]);
  });
});

test('more bytes come back than were taken, and the bug stays hidden', () => {
  const notes = smallAccount({}).kind('notes');
  notes.force(10);
  expect(() => {
    notes.give(11);
  }).toThrow('11 bytes of notes come back, of 10');
  expect(notes.bytes).toBe(10);
});

describe('refusals', () => {
  test.each([
    ['notes', 'BROKER_FULL'],
    ['bodies', 'BROKER_BUSY'],
    ['streams', 'BROKER_BUSY'],
  ] as const)('a full kind %s is refused without its name, or not as %s', (name, reason) => {
    const account = smallAccount({ [name]: 10 });
    expect(() => account.kind(name).hold(11)).toThrow(
      expect.objectContaining({ reason, fields: { kind: name, bytesMax: 10 } }) as Error,
    );
  });
});

describe('holds', () => {
  test('a hold that ends on two paths gives its bytes back twice', () => {
    const account = smallAccount({});
    const others = account.kind('bodies').hold(5);
    const hold = account.kind('bodies').hold(10);
    hold.release();
    hold.release();
    expect(counted(account)).toEqual({ bodies: 5 });
    expect([hold.resize(7), hold.bytes]).toEqual([false, 0]);
    others.release();
    expect(counted(account)).toEqual({});
  });

  test('a hold that cannot grow changes what is counted', () => {
    const account = smallAccount({ bodies: 10 });
    const hold = account.kind('bodies').hold(6);
    expect([hold.resize(11), hold.bytes, hold.resize(10), hold.resize(2)]).toEqual([false, 6, true, true]);
    hold.force(20);
    expect(counted(account)).toEqual({ bodies: 20 });
    hold.force(1);
    hold.release();
    expect(counted(account)).toEqual({});
  });
});

describe('owners', () => {
  test('one connection takes the room of all others', () => {
    const account = smallAccount({});
    const connection = account.owner();
    const ownMax = kinds.bodies.ownerBytesMax;
    expect([connection.kind('bodies').take(ownMax), connection.kind('bodies').take(1)]).toEqual([true, false]);
    expect(() => connection.kind('bodies').hold(1)).toThrow(
      expect.objectContaining({ reason: 'CONNECTION_BUSY' }) as Error,
    );
    expect(account.owner().kind('bodies').take(1)).toBe(true);
  });

  test('a connection may hold one decoded request of any size, and none beside it beyond its own limit', () => {
    const account = smallAccount({});
    const [connection, other] = [account.owner().kind('decoded'), account.owner().kind('decoded')];
    const large = connection.hold(kinds.decoded.ownerBytesMax + 1);
    expect([connection.take(1), other.take(1)]).toEqual([false, true]);
    expect(connection.refusal(1)).toMatchObject({ reason: 'CONNECTION_BUSY' });
    large.release();
    expect([connection.take(1), connection.take(kinds.decoded.ownerBytesMax)]).toEqual([true, false]);
  });

  test('an owner that closes leaves something counted, or a late release gives it back again', () => {
    const account = smallAccount({});
    account.kind('bodies').force(1);
    const connection = account.owner();
    const hold = connection.kind('bodies').hold(10);
    connection.kind('streams').force(20);
    connection.close();
    connection.close();
    hold.release();
    connection.kind('streams').give(20);
    connection.kind('streams').force(30);
    expect(connection.kind('answers').take(1)).toBe(false);
    expect(counted(account)).toEqual({ bodies: 1 });
  });

  test('an owner gives back what another one holds', () => {
    const account = smallAccount({});
    account.kind('bodies').force(10);
    expect(() => {
      account.owner().kind('bodies').give(1);
    }).toThrow('of this owner');
  });
});

describe('eviction', () => {
  /** A cache that gives back in pieces of 10 bytes. */
  function cache(account: Account, name: KindName, bytes: number): void {
    const kind = account.kind(name);
    kind.force(bytes);
    kind.onShort((short) => {
      for (let freed = 0; freed < short && kind.bytes >= 10; freed += 10) kind.give(10);
    });
  }

  test('a cache keeps its bytes while a request of the same pool is refused, or loses more than is needed', () => {
    const account = new Account({ ...at256, pools: { ...at256.pools, buffers: 100 } });
    cache(account, 'tail', 60);
    cache(account, 'feeds', 20);
    expect(account.kind('bodies').take(45)).toBe(true);
    expect(counted(account)).toEqual({ tail: 50, bodies: 45 });
    expect(account.kind('bodies').refused).toBe(0);
  });

  test('a cache is emptied for a request that is refused anyway', () => {
    const account = new Account({ ...at256, pools: { ...at256.pools, buffers: 100 } });
    cache(account, 'tail', 60);
    account.kind('answers').force(40);
    expect(account.kind('bodies').take(61)).toBe(false);
    expect(counted(account)).toEqual({ tail: 60, answers: 40 });
  });

  test('a cache at its limit never takes anything new', () => {
    const account = smallAccount({ keys: 100 });
    cache(account, 'keys', 100);
    expect([account.kind('keys').take(15), account.kind('keys').take(101)]).toEqual([true, false]);
    expect(counted(account)).toEqual({ keys: 95 });
  });
});
