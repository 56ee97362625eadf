import { expect, test } from 'vitest';
import { readyzAnswer, type Readiness } from '../../../src/rpc/operations/readiness.ts';

const active: Readiness = { ok: true, role: 'active', reasons: [] };
const standby: Readiness = { ok: false, role: 'standby', reasons: ['standing by: another broker owns the database'] };
const full: Readiness = { ok: false, role: 'active', reasons: ['disk full', 'database read-only'] };

test.each([
  ['/readyz', active, 200, 'ready'],
  ['/readyz?role=any', active, 200, 'ready'],
  ['/readyz', standby, 503, 'standing by: another broker owns the database'],
  ['/readyz?role=any', standby, 200, 'standby'],
  ['/readyz', full, 503, 'disk full\ndatabase read-only'],
  ['/readyz?role=any', full, 503, 'disk full\ndatabase read-only'],
  ['/readyz?role=any', { ...standby, role: 'starting' }, 503, standby.reasons[0]],
  ['/readyz?role=any', { ...standby, role: 'stopping' }, 503, standby.reasons[0]],
  ['/readyz?at=1', active, 200, 'ready'],
] as const)('%s of %o answers %i', (url, readiness, status, text) => {
  expect(readyzAnswer(url, readiness)).toEqual([status, text]);
});

test('a role that there is not is refused, or a rollout with a typing error would wait for ever', () => {
  expect(readyzAnswer('/readyz?role=standby', active)).toEqual([
    400,
    'there is no role standby: it is any, or left out',
  ]);
  expect(readyzAnswer('/readyz?role=', active)[0]).toBe(400);
});

test('what the database says in a reason does not control the terminal of who reads it', () => {
  const reasons = ['migrating: \u001b[2Jgone'];
  expect(readyzAnswer('/readyz', { ok: false, role: 'starting', reasons })[1]).toBe('migrating:  [2Jgone');
});
