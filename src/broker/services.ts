import type { brokerService } from './broker-service.ts';
import type { groupService } from './group-service.ts';
import type { messageService } from './message-service.ts';
import type { subscriptionService } from './subscription-service.ts';
import type { topicService } from './topic-service.ts';

/**
 * The calls of an open broker: a service for each service of the proto, with one method for each RPC, in plain types. Every method
 * rejects with a `Rejection` (the caller's affair) or a `Fault` (the database's); anything else is a bug. The edge has checked
 * the caller, and the shapes and limits of the request, by then; the broker judges what depends on its state.
 */
export interface Services {
  readonly broker: ReturnType<typeof brokerService>;
  readonly group: ReturnType<typeof groupService>;
  readonly topic: ReturnType<typeof topicService>;
  readonly subscription: ReturnType<typeof subscriptionService>;
  readonly message: ReturnType<typeof messageService>;
}
