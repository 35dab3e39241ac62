export { TEST_PROVIDER, TEST_SLACK } from "./test_provider.ts";
