import type { DescMethod } from '@bufbuild/protobuf';
import { limits } from '../../limits/limits.ts';
import { actionOf } from '../edge/actions.ts';
import { numberOr } from '../validation/defaults.ts';

/**
 * How large the answer to a request may be, for calls that only read. They can wait for room before
 * their work, and they can be refused after it, because they change nothing. Null: other calls.
 */
export function answerBytesMax(method: DescMethod): ((request: object) => number) | null {
  if (actionOf(method) !== 'read') return null;
  if (!('maxBytes' in method.input.field)) return () => limits.messageBytesMax;
  return (request) => {
    const asked = numberOr((request as { readonly maxBytes: bigint }).maxBytes, limits.readBytesDefault);
    return Math.max(0, Math.min(asked, limits.messageBytesMax));
  };
}
