/** Starts the page with the model behind the server. Another start file may connect another model. */

import { start } from "./page.js";
import { connect } from "./server_model.js";

// The token is in a cookie from here on: a copied address or a screenshot does not give it away.
history.replaceState(null, "", location.pathname);
start(connect);
