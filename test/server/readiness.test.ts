import { expect, test } from 'vitest';
import { readinessOf } from '../../src/server/readiness.ts';

const serving = {
  isStopping: false,
  isOpen: true,
  mayDeliver: true,
  standsBy: false,
  activity: 'loading: the state is being loaded',
  failure: null,
  refused: { diskFullSinceMs: null, isReadOnly: false },
};
const loading = { ...serving, isOpen: false, mayDeliver: false };

test('a broker that serves is ready', () => {
  expect(readinessOf(serving)).toEqual({ ok: true, role: 'active', reasons: [] });
});

test('a broker whose database takes no writes says every reason, and is not ready', () => {
  const refused = { diskFullSinceMs: 0, isReadOnly: true };
  expect(readinessOf({ ...serving, mayDeliver: false, failure: 'renewing the lease: gone', refused })).toEqual({
    ok: false,
    role: 'active',
    reasons: [
      'the database does not answer; renewing the lease: gone',
      'disk full: publishes are refused since 1970-01-01T00:00:00.000Z',
      'database read-only: nothing can be written',
    ],
  });
});

test('a standby that has lost the database is none that could take over', () => {
  const standingBy = { ...loading, standsBy: true, activity: 'standing by: another broker owns the database' };
  expect(readinessOf(standingBy)).toMatchObject({ ok: false, role: 'standby', reasons: [standingBy.activity] });
  const failure = 'looking for the owner: gone';
  expect(readinessOf({ ...standingBy, failure })).toMatchObject({ ok: false, role: 'starting', reasons: [failure] });
});

test('a broker that loads, or stops, is not ready whatever else is true', () => {
  expect(readinessOf(loading)).toMatchObject({ ok: false, role: 'starting', reasons: [loading.activity] });
  const stopping = { ok: false, role: 'stopping', reasons: ['stopping'] };
  expect(readinessOf({ ...serving, isStopping: true })).toEqual(stopping);
});
