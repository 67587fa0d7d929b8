#!/bin/sh
# Sets up a service that durable flows run in: run it in this folder, with PROJECT and REGION set.
set -eu
ACCOUNT="flow-runner@$PROJECT.iam.gserviceaccount.com"
NUMBER=$(gcloud projects describe "$PROJECT" --format='value(projectNumber)')
SERVICE="https://shop-$NUMBER.$REGION.run.app"
QUEUE="projects/$PROJECT/locations/$REGION/queues/flows"

# Whom tasks and the scheduler call as, and who the service is. It may take a minute until a new account is known: if a
# role is refused to it, run what follows once more.
gcloud iam service-accounts create flow-runner --project="$PROJECT"
for role in roles/datastore.user roles/cloudtasks.enqueuer; do
    gcloud projects add-iam-policy-binding "$PROJECT" --member="serviceAccount:$ACCOUNT" --role="$role" --condition=None
done
# Who makes a task with a token of the account must be allowed to act as it.
gcloud iam service-accounts add-iam-policy-binding "$ACCOUNT" --project="$PROJECT" \
    --member="serviceAccount:$ACCOUNT" --role=roles/iam.serviceAccountUser

gcloud tasks queues create flows --project="$PROJECT" --location="$REGION" \
    --max-attempts=20 --min-backoff=1s --max-backoff=300s

# Who builds the image. Organisations differ in what this account may do by default.
gcloud projects add-iam-policy-binding "$PROJECT" --role=roles/run.builder --condition=None \
    --member="serviceAccount:$NUMBER-compute@developer.gserviceaccount.com"

# Anybody may call the service, and Oidc in main.py looks at who calls /flows. A private service would get the tokens
# without their signatures, which Oidc refuses: it takes verify=None, and roles/run.invoker for the account.
cp Containerfile Dockerfile # the name that Cloud Build looks for
gcloud run deploy shop --source=. --project="$PROJECT" --region="$REGION" --service-account="$ACCOUNT" --timeout=300 \
    --allow-unauthenticated \
    --set-env-vars="FLOWS_QUEUE=$QUEUE,FLOWS_URL=$SERVICE/flows/drive,FLOWS_ACCOUNT=$ACCOUNT"

# The sweep: what wakes runs whose task was lost, or whose process has died.
gcloud scheduler jobs create http flows-sweep --project="$PROJECT" --location="$REGION" --schedule='* * * * *' \
    --attempt-deadline=300s --uri="$SERVICE/flows/sweep" --http-method=POST \
    --oidc-service-account-email="$ACCOUNT" --oidc-token-audience="$SERVICE/flows/drive"
