region             = "eu-central-1"
zones              = ["eu-central-1a", "eu-central-1b"]
projects           = { scenes = { run_cap_usd = 200 } }
monthly_budget_usd = 3000
alarm_emails       = ["perception@example.com"]
destroyable        = true # a trial; leave it out where data matters
