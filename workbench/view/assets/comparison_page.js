// The entry of a page that holds compared runs.

import { openComparison } from "./comparison.js";
import { PagesSource, pageOptions, showOnPage } from "./embedded.js";

showOnPage(await openComparison(new PagesSource(), pageOptions()));
